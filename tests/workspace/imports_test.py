"""What a light import must not pull in."""

import subprocess
import sys

import pytest

_HEAVY = ("flax", "jax", "matplotlib", "orbax", "scipy")


@pytest.mark.parametrize(
  "modules",
  [
    ("research", "research.data.artifacts", "research.telemetry"),
    ("research.cluster.launch",),
  ],
)
def test_light_modules_stay_light(modules: tuple[str, ...]):
  """Fetching a file or starting processes should not take JAX's seconds."""
  script = "\n".join(
    (
      "import importlib, sys",
      f"for name in {modules!r}: importlib.import_module(name)",
      f"print(*(name for name in {_HEAVY!r} if name in sys.modules))",
    )
  )
  done = subprocess.run(
    [sys.executable, "-c", script], capture_output=True, text=True, check=True
  )
  assert done.stdout.split() == []
