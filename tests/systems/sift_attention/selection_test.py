"""Rows by position, rows by threshold, and no empty row."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from research.systems.sift_attention import selection
from research.systems.sift_attention.policies import base, rules


def _log_scores(size=12):
  scores = jax.random.normal(jax.random.key(0), (2, 3, size))
  return jax.nn.log_softmax(scores)


@pytest.mark.parametrize("newest", [0, 1])
def test_an_infinite_threshold_leaves_no_row_empty(newest):
  """Trap: eta above every score; the newest or the largest one stays."""
  always = selection.Always(newest=newest)
  lengths = jnp.array([12, 7])
  scores = _log_scores()
  chosen, _ = selection.select(
    rules.PositionOnly(), (), scores, lengths, always
  )
  assert (chosen.keep.sum(-1) == 1).all()
  where = np.asarray(chosen.keep.argmax(-1))
  if newest:
    np.testing.assert_array_equal(where, [[11] * 3, [6] * 3])
  else:
    for batch, length in enumerate([12, 7]):
      best = np.asarray(scores[batch, :, :length]).argmax(-1)
      np.testing.assert_array_equal(where[batch], best)


def test_the_newest_token_is_kept_by_default():
  """Trap: the query's own token dropped, as the least score of its row."""
  scores = jnp.log(jnp.array([[[0.7, 0.2, 0.1, 0.0]]]).at[..., 3].set(1e-9))
  chosen, _ = selection.select(rules.TopK(1), (), scores, jnp.array([4]))
  assert chosen.keep.tolist() == [[[True, False, False, True]]]


@pytest.mark.parametrize(
  ("sinks", "newest", "share", "length", "kept"),
  [
    (4, 8, 0.0, 100, 12),
    (4, 8, 0.25, 100, 25),
    (4, 8, 0.25, 16, 12),
    (4, 8, 0.0, 6, 6),
    (0, 1, 0.0, 1, 1),
  ],
)
def test_streaming_keeps_sinks_and_a_window(sinks, newest, share, length, kept):
  policy, always = selection.streaming_llm(sinks, newest, share)
  chosen, _ = selection.select(
    policy, (), _log_scores(128), jnp.full(2, length), always
  )
  keep = np.asarray(chosen.keep)
  assert (keep.sum(-1) == kept).all()
  assert keep[:, :, : min(sinks, length)].all()
  assert keep[:, :, length - (kept - sinks) : length].all()
  assert not keep[:, :, length:].any()


def test_the_kernel_s_threshold_gives_the_mask():
  """Trap: two code paths, one for kernels and one for evaluation."""
  policy, always = rules.RelativeToMax(2.0), selection.Always(sinks=2)
  scores, lengths = _log_scores(), jnp.array([12, 5])
  row = base.make_row(scores, lengths)._replace(log_scores=None)
  found = selection.threshold(policy, (), row, always)
  slot = np.arange(12)
  keep = np.asarray(scores) >= np.asarray(found)[..., None]
  start = np.asarray(always.window_start(lengths))[:, None, None]
  keep = (keep | (slot < 2) | (slot >= start)) & (
    slot < np.asarray(lengths)[:, None, None]
  )
  chosen, _ = selection.select(policy, (), scores, lengths, always)
  np.testing.assert_array_equal(chosen.keep, keep)


def test_bad_rows_are_named():
  with pytest.raises(ValueError, match="got -1, 1 and 0.0"):
    selection.Always(sinks=-1)
