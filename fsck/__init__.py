"""``fsck.lfs``: the complete check of a filesystem, independent of the mount path.

Everything here follows from FORMAT.md alone.  Of the rest of the project only
the parsers (``lfs.ondisk``), the checksum, the errors and the devices are
shared, never the code that decides at mount: a bug there cannot hide here.

A filesystem is in two places, the newer checkpoint and the log after it, and so
are its rules.  Those of the checkpoint (usage table, counters) are held against
the checkpoint's tree; those of files and names against the tree with the log's
commits over it, which is what a mount will show.  Tree and log are merged in
key order (``overlay``) and read once; what must be known across inodes is kept in compact
columns.  The path of a check:

1. ``structure``: superblocks, checkpoint regions, usage table.
2. ``log``: the chain after the checkpoint, its end or its damage, its records.
3. ``tree`` yields the items, ``inodes`` checks each inode with all its items,
   ``data`` reads the blocks, ``names`` and ``space`` collect.
4. ``space``: overlaps, usage recounted.  ``summaries``: every live block is
   described by a summary of its run.  ``names``: links, directories, orphans.

Damage is never an exception past the module that met it: it becomes a
``Problem`` and the check goes on.  Where a lost part of the tree makes a rule
undecidable the rule is not applied, and a note says so.
"""
