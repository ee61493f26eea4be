"""Models that other servers run for this hub, registered by an administrator."""
