"""The parts of the fill-in-the-middle recipe."""
