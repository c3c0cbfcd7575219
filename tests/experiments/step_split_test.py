"""Every instant of a recorded call is counted once."""

import pytest

from experiments.tools import step_split
from research.telemetry import xplane


def _ran(scope: str, opcode: str, start: float, end: float, device: int = 0):
  return xplane.Operation(device, scope, frozenset({opcode}), start, end)


def test_time_goes_to_what_ran():
  (split,) = step_split.split(
    [
      _ran("layer_0/mlp", "dot", 1.0, 2.0),
      _ran("layer_0/mlp", "tanh", 2.0, 2.5),
      _ran("layer_0/mlp/all_reduce", "collective-permute", 2.5, 4.5),
      _ran("layer_0/mlp/all_reduce", "add", 4.5, 4.75),
      _ran("tick_0", "collective-permute", 5.0, 5.5),
      _ran("all_gather", "all-gather", 5.5, 5.75),
      _ran("", "all-reduce", 5.75, 6.0),
    ],
    wall=8.0,
  )
  assert split == {
    "matmul": 1.0,
    "other": 0.5,
    "all_reduce": 2.25,
    "transfer": 1.0,
    "idle": 3.25,
  }


def test_messages_count_where_no_work_hides_them():
  (split,) = step_split.split(
    [
      _ran("all_reduce", "all-reduce", 0.0, 4.0),
      _ran("mlp", "dot", 1.0, 2.0),
      _ran("mlp", "dot", 1.5, 2.5),  # on another thread
      _ran("tick_1", "collective-permute", 3.5, 5.0),
      _ran("attention", "exponential", 2.25, 3.0),
    ],
    wall=5.0,
  )
  assert split == {
    "matmul": 1.5,
    "other": 0.5,
    "all_reduce": 2.0,
    "transfer": 1.0,
    "idle": 0.0,
  }


def test_a_product_within_a_fusion_is_a_product():
  fused = xplane.Operation(
    0, "mlp", frozenset({"fusion", "dot", "add"}), 0.0, 1.0
  )
  (split,) = step_split.split([fused], wall=1.0)
  assert split["matmul"] == 1.0


def test_devices_are_apart_and_averaged():
  one, two = step_split.split(
    [_ran("", "dot", 0.0, 1.0, 5), _ran("", "add", 0.0, 3.0, 4)], wall=4.0
  )
  assert (one["other"], one["idle"]) == (3.0, 1.0)
  assert (two["matmul"], two["idle"]) == (1.0, 3.0)
  mean = step_split.mean([one, two])
  assert mean["idle"] == pytest.approx(2.0)
  assert sum(mean.values()) == pytest.approx(4.0)
