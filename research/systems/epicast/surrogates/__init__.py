"""Surrogates of EpiCast: compartments of disease times neutral or fearful."""

import os

# JAX keeps no compiled program that calls back to Python, as equinox's checks
# that raise do; so they give NaN, which `solve` refuses with an error of its
# own. Equinox reads this when it is imported.
os.environ.setdefault("EQX_ON_ERROR", "nan")
