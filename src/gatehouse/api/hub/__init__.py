"""The Hub API."""
