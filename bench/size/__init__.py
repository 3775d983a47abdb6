"""Cost against size: what an operation costs as files, or the disk, become more.

The images are filled through the library, which is faster than a mount, once for
each number of files: spread over directories of a thousand, or all in one.  The
log then ends with a checkpoint and a fixed number of changes to files all over
the tree, so that the mount after the crash has the same amount to roll forward
everywhere.  Everything else goes through that mount.

A cost may grow with a logarithm, which adds the same for each tenfold of files.

Operations are timed in two states that mean the same at every size.  *Cold* is the
first one after a mount, when nothing of the image is in any cache but what the mount
itself has read.  *Warm* is when all that it needs has been read before.  A mean over
the first thousand would be neither: of a thousand files a few blocks, once read, serve
all, while of a million each file has blocks of its own, so that it would tell how warm
they are.  Beside the times stands what one operation asks of the device, counted
through the library: that is the same on every machine.
"""
