"""What a filesystem is asked: each request as a whole, and the bounds that all of them keep.

Theory.  A request looks at its arguments, asks for room, changes memory by way of the
parts below, and leaves the bounds as they were (``core``).  The requests are grouped by
what they are about: ``inodes``, ``names``, ``contents``, ``attributes``, ``durability``
and ``background``; together they are what ``lfs.filesystem`` offers.  ``maintenance``
decides what is to be done between them.
"""
