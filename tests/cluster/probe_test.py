import json
import subprocess
import sys

import jax
import pytest

from research.cluster import probe

_SPIN = [sys.executable, "-c", "while True: pass"]


def test_free_cores_sees_a_competitor_on_every_core():
  # The probe yields to whoever else wants to run: two spinners leave nothing.
  # This direction holds however busy the machine is, so the test is no race.
  cores = probe.machine()["cores"]
  assert isinstance(cores, int)
  spinners = [subprocess.Popen(_SPIN) for _ in range(cores)]
  try:
    busy = max(probe.free_cores(seconds=0.1, threads=cores) for _ in range(3))
  finally:
    for spinner in spinners:
      spinner.kill()
      spinner.wait()
  assert busy < cores - 0.2


def test_free_cores_is_bounded_by_its_threads():
  assert 0.0 <= probe.free_cores(seconds=0.05, threads=1) <= 1.0


def test_bandwidth_scales_with_neither_size_nor_repeats():
  # Units: a wrong factor (bits, elements, passes) would exceed the bounds,
  # which hold for any memory from DDR3 on a busy host to HBM.
  rate = probe.memory_bandwidth(size_bytes=64 << 20, repeats=2)
  assert 0.2e9 < rate < 5e12


@pytest.mark.parametrize("name", ["cpu", "system", "python", "jax", "numpy"])
def test_machine_names(name: str):
  assert probe.machine()[name]


def test_machine_is_json_with_the_versions_in_use():
  facts = json.loads(json.dumps(probe.machine()))
  assert facts["jax"] == jax.__version__
  assert facts["memory_bytes"] > 1 << 28
