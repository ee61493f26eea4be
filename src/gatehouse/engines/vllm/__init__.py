"""Models of text run by vLLM: a program of its own, started for one model and ended with it."""
