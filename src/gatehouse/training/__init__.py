"""Recipes that make models."""
