"""Workers around other people's engines, run by `.venv-peers`' Python."""
