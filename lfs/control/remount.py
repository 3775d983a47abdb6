"""Changing a mount: names by which the daemon is asked, for root and the user who mounted.

Asking is reading: the kernel refuses to set an attribute on a mount that is read-only,
so a wish is part of the attribute's name.
"""

from __future__ import annotations

CONTROL_PREFIX = b"system.lfs.control."
OPTIONS_ATTRIBUTE = CONTROL_PREFIX + b"options"
"""Holds the options that the mount began with, each ended by a zero byte."""
REMOUNT_ATTRIBUTE = CONTROL_PREFIX + b"remount."
"""With the options of a ``Change`` after it makes that change; holds nothing when it
is done, else an errno and a line that says why it was refused."""
