"""Programs that measure Gatehouse beside a named peer, in the same run. See README.md."""
