"""The inode map: every item of metadata under its key, as a copy-on-write tree with changes.

Theory.  ``map`` is what others use: items as they are now.  Below it are nodes, read and
kept by ``node_cache``; beside it what changed since the checkpoint, put in order by
``key_order`` when that is asked for; ``rebuild`` merges both into a new tree.
"""
