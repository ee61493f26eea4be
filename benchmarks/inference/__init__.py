"""The hub before an engine: what it adds to one that computes nothing, whom it lets go first."""
