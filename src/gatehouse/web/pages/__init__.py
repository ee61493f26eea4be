"""One file per group of pages: read the form, call a room, draw a template."""
