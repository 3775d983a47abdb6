"""One user of an image at a time, by whatever path its bytes are reached.

Theory.  An image is not its path: a loop device, a partition and a file may be the same
bytes.  So what is locked is what the bytes are, found out from what the kernel tells
(``identity``), by one lock that all commands take (``lock``).  Who holds it, or has the
image mounted otherwise, is named (``holders``, ``mount_table``).
"""
