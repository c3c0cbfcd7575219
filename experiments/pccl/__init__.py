"""PCCL (arXiv 2504.18658): gathers, scatters and training on emulated links."""
