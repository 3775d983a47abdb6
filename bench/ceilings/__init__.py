"""Filesystems in memory that do nothing, behind the loop of lfs: what it could reach at most.

``ceiling`` keeps what any filesystem keeps of its files; ``lean`` has nothing in its way.
"""
