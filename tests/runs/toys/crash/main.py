"""Fails as a broken experiment does: with a traceback."""

raise RuntimeError("the lab burned down")
