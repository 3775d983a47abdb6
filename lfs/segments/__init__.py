"""The log: segments, the runs they are filled in, and the log writes in them.

The disk is divided into segments of one size.  A *run* is 2**order adjacent
segments that are allocated, filled, cleaned and freed as one.  Runs are filled
from front to back by *log writes*, each a summary that names the owner of every
block and a payload.  Log writes form one chain across all runs.

``usage`` knows how many live blocks each run has, ``reuse`` when an empty one may be used
again, ``out_of_use`` what errors have taken away.  ``placement`` is where a log write
goes, ``writer`` appends to the chain, ``reader`` follows it, ``policy`` picks the runs to
clean.  None of them knows what a file is.  Above commits lies ``cleaning``, which does.
"""
