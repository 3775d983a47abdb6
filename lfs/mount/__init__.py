"""The commands that mount, remount and unmount, and the daemon that serves a mount.

``main``, ``remount`` and ``unmount`` are the commands, ``options`` what they are told.
``session`` is one mounted filesystem, from taking the lock on its image to giving it back;
``control`` answers what its owner asks of it.
"""
