"""Git repositories on disk and git's wire formats."""
