"""What each plan may run, and what was used."""
