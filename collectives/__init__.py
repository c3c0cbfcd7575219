"""Collectives whose schedules are data, proved, and lowered to JAX."""

from collectives.agreement import DisagreementError, check_agreement, plan
from collectives.api import all_gather, all_reduce, reduce_scatter
from collectives.faults import LostPeerError, guard

__all__ = [
  "DisagreementError",
  "LostPeerError",
  "all_gather",
  "all_reduce",
  "check_agreement",
  "guard",
  "plan",
  "reduce_scatter",
]
