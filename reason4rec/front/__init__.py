"""Where a person asks: the commands of a shell, and a page with its API."""
