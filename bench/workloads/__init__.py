"""What is measured on a mounted filesystem.

A workload prepares a folder, lets everything settle, and then does its work,
which alone is timed: what the preparation, or the system that ran before, has
left to be written is on the medium by then.  It returns operations a second,
MiB a second, or milliseconds.  Metadata workloads are written once and run by
one process and by four at the same time.
"""
