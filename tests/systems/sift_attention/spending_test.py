"""What a generation says that it read."""

import json

import numpy as np
import pytest

from research.systems.sift_attention import generation, sifting, spending
from research.systems.sift_attention.policies import rules
from research.telemetry import metrics


@pytest.fixture(scope="module")
def states(generate):
  spec = generation.Sifted(rules.TopK(4), layers=(True, False))
  return generate(spec)[1]


def test_trap_10_value_rows_are_counted_after_the_union(states):
  """Nor are keys forgotten: they are read whole, so half is the floor."""
  used = spending.whole(states)
  kept = sum(int(s.totals.kept.sum()) for s in states)
  rows = sum(int(s.totals.rows.sum()) for s in states)
  live = sum(int(s.totals.live.sum()) for s in states)
  assert used.kept_share == pytest.approx(kept / (4 * live))
  assert used.row_share == pytest.approx(rows / (2 * live))
  assert used.row_share > used.kept_share
  assert used.byte_share == pytest.approx((1 + used.row_share) / 2)
  assert used.bytes_read == (2 * live + rows) * 8 * 4
  assert used.head_share.shape == (2, 3, 4)
  np.testing.assert_array_equal(used.head_share[1], 1)


def test_metrics_name_layers_and_heads(states, tmp_path):
  with metrics.MetricWriter(tmp_path) as writer:
    writer.scalars(11, spending.metrics(states))
  (row,) = metrics.read(tmp_path / metrics.FILE_NAME)
  values = {name: value or 0.0 for name, value in row["values"].items()}
  assert len(values) == 3 * 5 + 2 * 4
  assert values["sift/layer_01/kept_share"] == 1
  assert values["sift/layer_01/mass_share"] == pytest.approx(1)
  first = states[0].totals
  by_row = np.asarray(first.kept)[:, 3] / np.asarray(first.seen)
  assert values["sift/layer_00/head_03_kept_share"] == pytest.approx(
    by_row.mean()
  )
  half = values["sift/layer_00/read_bytes"] + values["sift/layer_01/read_bytes"]
  assert values["sift/read_bytes"] == half
  assert json.dumps(values)  # plain numbers


def test_the_summary_is_one_line(states):
  line = spending.summary(states)
  used = spending.whole(states)
  assert "\n" not in line
  assert f"{used.row_share:.1%} of value rows after the union" in line
  assert f"{used.byte_share:.1%} of the bytes of K and V" in line


def test_a_generation_without_a_step_is_named(generate):
  states = generate(generation.Sifted(rules.Dense()), steps=1)[1]
  with pytest.raises(ValueError, match="no step was counted; decode at least"):
    spending.summary(states)


def test_many_bytes_do_not_overflow(states):
  """Totals are 32 bits wide, their sums are not."""
  totals = states[0].totals
  many = totals._replace(
    live=np.full(3, 2**30, np.int32), rows=np.full((3, 2), 2**30, np.int32)
  )
  used = sifting.spent(many, width=8, itemsize=4)
  assert used.bytes_read == 2 * 3 * 2 * 2**30 * 32
