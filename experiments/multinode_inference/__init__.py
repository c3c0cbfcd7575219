"""Multi-node inference (arXiv 2511.09557): collectives on emulated links."""
