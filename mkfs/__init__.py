"""mkfs.lfs: puts an empty filesystem on an image file or a block device.

Making a filesystem destroys what was there, so most of this package is about
refusing: ``target`` finds out whether anybody uses the target, ``signatures``
whether it holds something else, ``lfs.geometry`` whether it is large enough and how
to divide it.  Only then ``main`` wipes what would make the target look like
anything else and lets ``lfs.make`` write, the superblocks last: until then it
is no filesystem at all, whatever goes wrong.
"""
