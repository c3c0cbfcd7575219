"""Decode attention that loads only the value rows that pass a threshold."""
