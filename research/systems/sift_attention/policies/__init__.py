"""Policies: which value rows are worth reading, decided row by row."""
