"""Surrogates of EpiCast: compartments of disease times neutral or fearful."""
