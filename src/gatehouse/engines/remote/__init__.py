"""The languages that other inference servers speak, as pure code over bytes and JSON."""
