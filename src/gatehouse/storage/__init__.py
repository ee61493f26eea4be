"""Bytes: blobs by content address, git repositories, LFS and Xet formats."""
