"""Benchmarks: this filesystem beside its peers, in one run on the same storage.

Figures of two runs on two days say little, so every workload runs on all
systems in turn, in rounds, and what counts is the ratio of medians.  The systems
are: lfs itself; the *ceilings*, filesystems in memory that do nothing behind
the same request loop, so that the share of the core can be told from that of
Python and FUSE; filesystems in C through FUSE (fuse2fs, ntfs-3g, bindfs); and
filesystems of the kernel on a loop device (ext4, XFS, Btrfs).

``systems`` makes and mounts them, ``workloads`` has what is done on a mount,
``library`` what is measured without one, and ``runner`` goes through it all.  ``waits``
are those of single operations, beside rates.
``counters`` asks what each operation costs the device, ``size`` how costs grow with
files and disks, ``profile`` where the time goes.  ``documents`` keeps what was found,
``conditions`` and ``report`` hold it against what is asked and against the budgets, and
``page`` and ``plots`` make RESULTS.md.
``python -m bench`` is the command; README.md says more.
"""
