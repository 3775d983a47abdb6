"""The checks of what the inode map holds: inodes, names, attributes, data."""
