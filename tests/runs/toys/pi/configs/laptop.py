"""Pi by darts.

Paper: arXiv 1234.56789, "Darts: a study"
Command: python -m toys.pi.main --config=toys/pi/configs/laptop.py \
  --workdir=out/pi
Expected: 0.1 minutes, 0.5 GB on 2 cores
Paper's value: 3.1416
"""

import os

from toys.pi import experiment  # pyrefly: ignore[missing-import]


def get_config(argument: str = "") -> experiment.Config:
  if argument:
    raise ValueError(f"got argument '{argument}', expected none")
  # Slower where a test wants to interrupt it.
  return experiment.Config(pause_s=float(os.environ.get("TOY_PAUSE_S", "0")))
