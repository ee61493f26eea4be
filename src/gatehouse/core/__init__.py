"""Settings, error kinds, identifiers and the clock; imports nothing of ours."""
