"""Compiled programs, kept from one run to the next."""

import jax

from research.data import artifacts


def keep() -> None:
  """Turns on JAX's persistent compilation cache, unless the user chose one."""
  chosen = jax.config.jax_compilation_cache_dir  # pyrefly: ignore[missing-attribute]
  if chosen is None:
    folder = str(artifacts.cache_dir() / "xla")
    jax.config.update("jax_compilation_cache_dir", folder)
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.2)
    jax.config.update("jax_persistent_cache_min_entry_size_bytes", -1)
