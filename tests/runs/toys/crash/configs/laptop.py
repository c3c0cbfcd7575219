"""A crash.

Paper: arXiv 1234.00001
Command: python -m toys.crash.main
Expected: 1 second, no memory
Paper's value: none
"""
