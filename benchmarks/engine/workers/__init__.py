"""One program per engine. Run in that engine's environment, so they know nothing of Gatehouse."""
