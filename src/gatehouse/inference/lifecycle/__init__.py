"""Which models are in memory, where, and who holds them."""
