"""What everything may use: errors, checksums, sizes, and the turns of background work.

Nothing here knows what a filesystem is.
"""
