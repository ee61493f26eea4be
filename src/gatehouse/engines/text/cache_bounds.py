"""What keys and values may take, in any engine of text.

The hub estimates by the same bounds, before a model is loaded, what memory it will need.
"""

# Sequences that run at once.
MAX_RUNNING = 32
# Or one whole context, if that is more.
CACHE_BYTES = 1024**3
