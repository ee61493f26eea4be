"""JSON shapes on the wire."""
