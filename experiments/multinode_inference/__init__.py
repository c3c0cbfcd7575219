"""Multi-node inference (arXiv 2511.09557): all-reduces and an engine."""
