"""Many processes at once on one mounted image, each sure of what its own files must hold.

Theory.  Each worker keeps a model of what it made: directories, files with their
contents, hard links, symlinks.  It draws an operation by its random numbers and
its model alone, does it, compares the result, and does it to the model.  So one
seed gives each worker the same operations whatever the others do, and a worker
needs no lock: what it made nobody else touches.  What they share is what the
filesystem shares: its log, its commits and its space; one directory that all of
them fill, in which each looks for its own names; and one file whose slots of odd
sizes lie side by side in the same blocks.

A run has four parts, on one daemon that may open few files and whose memory is
watched: a warm-up, after which all is removed and memory, descriptors and free
space are noted; the main part, after which all is removed and the three must be
as they were; a last part that leaves its files behind; and then the daemon is
killed after a sync, and mounted again, and the files are compared, and again
after an unmount and a check.
"""
