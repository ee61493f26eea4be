"""OpenAI's completions: bodies to requests, and generated sequences to their answers."""
