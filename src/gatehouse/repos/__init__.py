"""Repositories: refs, commits, trees, files, gating and the one gate."""
