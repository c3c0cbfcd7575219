"""Processes and machines: start a job, join it, and say what it runs on.

`setup()` is the first JAX call of every binary. `research.cluster.launch`
starts a local job of several processes, on emulated nodes if asked to,
`research.cluster.network` says which, and `research.cluster.probe` measures the
machine.
"""

from research.cluster.distributed import setup as setup
