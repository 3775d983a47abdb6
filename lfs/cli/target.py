"""How a mounted filesystem tells which image it is on: both ends of it.

The root directory has an extended attribute ``system.lfs.target`` that no
listing shows.  The mount table has the path too, unless ``fsname=`` says otherwise.
"""

from __future__ import annotations

import os

TARGET_ATTRIBUTE = b"system.lfs.target"


def mounted_target(directory: str) -> str:
    """Return the absolute path of the image or disk under a mounted lfs.

    Raises OSError: EOPNOTSUPP when ``directory`` is not on an lfs.
    """
    return os.fsdecode(os.getxattr(directory, TARGET_ATTRIBUTE))
