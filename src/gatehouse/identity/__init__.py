"""Users, organisations, tokens, sessions, plans and rate limits."""
