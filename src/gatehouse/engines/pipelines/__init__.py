"""Engines that run a model through `transformers`."""
