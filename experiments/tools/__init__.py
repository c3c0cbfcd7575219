"""Command-line tools over the shared packages."""
