"""The tool ``lfs``: what an administrator asks of a filesystem, mounted or not.

Each command is a module with ``add_parser``, which describes its arguments, and
a function that runs it and returns an exit code; ``main`` lists them.  Commands
know nothing of FUSE: they ask a mounted filesystem by ordinary system calls.
"""
