"""Delayed allocation: what was accepted, until it has its place on disk.

Theory.  A request that is accepted must be stored (P4), and where is decided only when it
is written out.  ``admission`` keeps the numbers that make sure of the first; ``write_out``
does the second.
"""
