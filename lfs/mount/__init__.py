"""The commands that mount, remount and unmount, and the daemon that serves a mount."""
