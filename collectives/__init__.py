"""Collectives whose schedules are data, proved, and lowered to JAX."""

from collectives.api import all_gather, all_reduce, reduce_scatter

__all__ = ["all_gather", "all_reduce", "reduce_scatter"]
