"""Run a model from a folder, in a process of its own."""
