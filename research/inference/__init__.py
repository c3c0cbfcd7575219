"""Turning a decoder into text: an engine over a paged cache."""
