"""Answers for the public hub's host names to programs that were told to come here by a proxy."""
