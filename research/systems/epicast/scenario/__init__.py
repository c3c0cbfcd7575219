"""Scenario files: what they may say, how they are read, what they make."""
