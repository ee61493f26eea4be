"""The machine edge: parse, call a room, answer."""
