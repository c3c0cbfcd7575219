"""Simulates schedules on a two-level network, up to thousands of ranks."""

from collectives.simulator.engine import Result, simulate
from collectives.simulator.network import Network

__all__ = ["Network", "Result", "simulate"]
