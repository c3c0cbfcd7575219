"""Machines that papers report on, as constants with their sources."""

from collectives.machines.profile import Constant, Profile, load, names

__all__ = ["Constant", "Profile", "load", "names"]
