"""NVRAR, an all-reduce by recursive doubling between nodes, as a kernel."""
