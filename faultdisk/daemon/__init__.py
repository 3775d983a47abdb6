"""A fault device while it is served: its lock, its report, and the socket that controls it."""
