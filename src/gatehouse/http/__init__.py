"""What both edges share: the current actor, errors, ranges, base URL, CSRF."""
