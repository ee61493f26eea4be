"""Which model is in memory, who may use it, and what it answered."""
