"""Engines of text generation side by side on this machine's processor: ours and those of others."""
