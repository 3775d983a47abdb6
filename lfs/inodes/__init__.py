"""Inodes and where their data lies, in memory.

Theory.  ``table`` has the inodes that are in memory, and finds the others.  An inode's
extents are kept in windows (``window``) of some adjacent blocks each, within one number
of bytes (``window_cache``).  ``cuts`` are windows that were cut off and wait to be given
up.
"""
