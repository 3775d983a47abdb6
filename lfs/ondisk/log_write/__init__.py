"""A log write: what its summary says, and packing that for each commit."""
