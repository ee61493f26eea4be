"""Git LFS pointers."""
