"""The whole filesystem, held by what it did before."""
