"""One decoder for every system: configuration, layers, caches, checkpoints."""
