"""The FUSE door: a fault device as a file."""
