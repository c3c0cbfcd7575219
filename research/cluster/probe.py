"""What the machine gives right now: free cores, memory bandwidth, its names."""

import concurrent.futures
import hashlib
import importlib.metadata
import os
import pathlib
import platform
import time

import numpy as np

_BLOCK_BYTES = 1 << 17  # about 70 microseconds of SHA-256
_VERSIONS = ("jax", "jaxlib", "flax", "numpy", "optax")


def free_cores(seconds: float = 0.2, threads: int = 2) -> float:
  r"""Measures how many cores nobody else is using.

  Every thread hashes equal blocks outside the GIL, at the lowest scheduling
  class (SCHED_IDLE), so it runs only where no other process wants to. With
  $n$ blocks done in a wall time $T$ and $b$ the time of an undisturbed block
  (the 25th percentile), the result is $n b / T$. It counts work, not CPU time,
  and so also sees what a hypervisor takes away. It cannot exceed `threads`.

  Args:
    seconds: length of the measurement.
    threads: how many cores to look for.

  Returns:
    Free cores: close to `threads` on an idle machine, one less for each
    process that spins.
  """
  start = time.perf_counter()
  with concurrent.futures.ThreadPoolExecutor(threads) as pool:
    # As many tasks as threads, each spinning to the end: one task a thread.
    ends = list(pool.map(_spin, [start + seconds] * threads))
  wall = time.perf_counter() - start
  blocks = np.concatenate([np.diff(times) for times in ends])
  if blocks.size == 0:
    return 0.0
  return float(min(blocks.size * np.percentile(blocks, 25) / wall, threads))


def _spin(deadline: float) -> list[float]:
  if hasattr(os, "SCHED_IDLE"):
    os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))  # this thread
  block = bytes(_BLOCK_BYTES)
  times = [time.perf_counter()]
  while times[-1] < deadline:
    hashlib.sha256(block)
    times.append(time.perf_counter())
  return times


def memory_bandwidth(
  *, size_bytes: int = 512 << 20, threads: int = 2, repeats: int = 5
) -> float:
  """Measures the read bandwidth of memory, in bytes a second.

  Streams once through a buffer too large for the caches, by a jitted sum and by
  an exclusive or in NumPy threads, and takes the best pass of either: a limit
  should be hard to beat.

  Args:
    size_bytes: buffer; keep it well above the last-level cache.
    threads: NumPy threads; the jitted sum uses what XLA has.
    repeats: passes of each kind.
  """
  import jax  # here, so that the rest of the module stays light
  import jax.numpy as jnp

  cpu = jax.local_devices(backend="cpu")[0]
  buffer = jnp.ones((size_bytes // 4,), jnp.float32, device=cpu)
  total = jax.jit(jnp.sum)
  halves = np.array_split(np.asarray(buffer).view(np.int64), threads)
  total(buffer).block_until_ready()
  best = float("inf")
  with concurrent.futures.ThreadPoolExecutor(threads) as pool:
    for _ in range(repeats):
      start = time.perf_counter()
      total(buffer).block_until_ready()
      between = time.perf_counter()
      list(pool.map(np.bitwise_xor.reduce, halves))
      end = time.perf_counter()
      best = min(best, between - start, end - between)
  return buffer.nbytes / best


def machine() -> dict[str, str | int]:
  """Describes the machine and the software, for `run.json`."""
  facts: dict[str, str | int] = {
    "cpu": _cpu_model(),
    "cores": len(os.sched_getaffinity(0))
    if hasattr(os, "sched_getaffinity")
    else os.cpu_count() or 1,
    "memory_bytes": os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"),
    "system": f"{platform.system()} {platform.release()}",
    "python": platform.python_version(),
  }
  return facts | {name: importlib.metadata.version(name) for name in _VERSIONS}


def _cpu_model() -> str:
  info = pathlib.Path("/proc/cpuinfo")
  if info.exists():
    for line in info.read_text().splitlines():
      name, _, value = line.partition(":")
      if name.strip() == "model name":
        return value.strip()
  return platform.processor() or platform.machine()
