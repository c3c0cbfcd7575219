"""Turning a decoder into text: sampling and generation over a paged cache."""
