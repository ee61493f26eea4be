"""What the hub adds to an engine: the real hub before an engine that computes nothing."""
