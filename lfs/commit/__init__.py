"""What lasts: commits and checkpoints, and how a mount finds them again.

Theory.  A commit puts all of memory into the log (``commit``), a checkpoint makes a tree of
it that needs no log (``checkpoint``).  ``recovery`` is the way back: from the superblocks
(``superblocks``) over the newer checkpoint to the last commit.
"""
