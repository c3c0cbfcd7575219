"""The ten reproductions, and the command that runs them."""
