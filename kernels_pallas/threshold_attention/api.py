"""The one entry to threshold attention, whatever runs it."""

from collections.abc import Callable, Sequence

from jaxtyping import Array, Float, Int

from kernels_pallas import implementations
from kernels_pallas.threshold_attention import (
  reference,
  result,
  triton,
  triton_one_pass,
  xla,
)

IMPLEMENTATIONS: dict[str, Callable[..., result.Attended]] = {
  "reference": reference.attend,
  "triton": triton.attend,
  "triton_one_pass": triton_one_pass.attend,
  "xla": xla.attend,
}


def threshold_attention(
  q: Float[Array, "b s h d"],
  k_pages: Float[Array, "page k d t"],
  v_pages: Float[Array, "page k t d"],
  table: Int[Array, "b pages"],
  lengths: Int[Array, " b"],
  log_threshold: result.Threshold,
  *,
  scale: float | None = None,
  sinks: int = 0,
  window_start: Int[Array, "b s"] | None = None,
  implementation: str | Sequence[str] | None = None,
) -> result.Attended:
  r"""Attends to the tokens whose attention score passes a threshold.

  With scores $s_j = \mathrm{scale} \cdot q k_j$ and
  $\mathrm{LSE} = \log \sum_j e^{s_j}$ over all tokens that a query sees, query
  by query and head by head,

  $$K = \{j : s_j \ge \min(\mathrm{LSE} + \log\eta, \max_i s_i)\}
    \cup \{j < \mathrm{sinks}\} \cup \{j \ge \mathrm{window\_start}\},
    \qquad
    o = \sum_{j \in K} e^{s_j} v_j \Big/ \sum_{j \in K} e^{s_j}.$$

  A finite threshold keeps the highest score at least, and $+\infty$ keeps what
  is named by position alone: by default the query's own token, so that no row
  is ever empty. A threshold of $-\infty$ is dense attention by the same code.
  Query heads of a group, and the queries of a row, share the value rows that
  they load.

  Args:
    q: rotated queries, the last `s` tokens of their rows; each sees itself and
      what stands before it.
    k_pages: pool of keys.
    v_pages: pool of values.
    table: page number of each row's i-th page; entries past the row's length
      may be anything within the pool.
    lengths: tokens of each row, the newest included; at most what its pages
      hold.
    log_threshold: $\log \eta$ in nats, `[b, s, h]`, from $-\infty$ (all) to
      $\infty$; or a function that finds it from a query's `result.Scores`.
    scale: what scores are multiplied with; by default $1 / \sqrt d$.
    sinks: how many first tokens are always kept.
    window_start: the slot from which on a query keeps all that it sees; by
      default its own, and nothing where it is past that.
    implementation: a name of `IMPLEMENTATIONS`, or several in order of
      preference, the next taken where one does not support the arguments. By
      default Triton on a GPU and else XLA, with a line in the log. One pass of
      Triton keeps a superset, and says so in what it returns.

  Returns:
    The attended values, log-sum-exp, and what was kept.

  Raises:
    ValueError: sizes that do not fit together, or an unknown name.
    UnsupportedError: no implementation of those named takes the arguments.

  Example:
    >>> import jax.numpy as jnp
    >>> pages = jnp.zeros((1, 1, 16, 16))
    >>> one = jnp.ones((1,), jnp.int32)
    >>> done = threshold_attention(
    ...   jnp.ones((1, 1, 2, 16)), pages, pages, one[:, None] - 1, 5 * one,
    ...   jnp.full((1, 1, 2), -jnp.inf), implementation="xla")
    >>> done.kept.tolist(), done.rows.tolist()
    ([[[5, 5]]], [[5]])

  References:
    Threshold attention guided by a power law: arXiv 2506.05300.
  """
  _check(q, k_pages, v_pages, table, lengths, log_threshold, window_start)
  if scale is None:
    scale = q.shape[-1] ** -0.5
  if window_start is None:
    window_start = result.count_seen(lengths, q.shape[1]) - 1
  return implementations.first(
    "threshold_attention",
    IMPLEMENTATIONS,
    implementation,
    lambda attend: attend(
      q,
      k_pages,
      v_pages,
      table,
      lengths,
      log_threshold,
      window_start,
      scale=scale,
      sinks=sinks,
    ),
    gpu=("triton",),
  )


def _check(
  q, k_pages, v_pages, table, lengths, log_threshold, window_start
) -> None:
  """Raises unless the sizes fit together."""
  batch, queries, heads, width = q.shape
  pages, kv_heads, size = v_pages.shape[:3]
  if heads % kv_heads:
    raise ValueError(
      f"q: got {heads} heads, expected a multiple of the {kv_heads} key-value "
      "heads"
    )
  expected = {
    "k_pages": (k_pages, (pages, kv_heads, width, size)),
    "v_pages": (v_pages, (pages, kv_heads, size, width)),
    "table": (table, (batch, *table.shape[1:2])),
    "lengths": (lengths, (batch,)),
  }
  if not callable(log_threshold):
    expected["log_threshold"] = (log_threshold, (batch, queries, heads))
  if window_start is not None:
    expected["window_start"] = (window_start, (batch, queries))
  for name, (array, shape) in expected.items():
    if array.shape != shape:
      raise ValueError(f"{name}: got shape {array.shape}, expected {shape}")
  if not q.dtype == k_pages.dtype == v_pages.dtype:
    raise ValueError(
      f"got dtypes q {q.dtype}, k_pages {k_pages.dtype}, v_pages "
      f"{v_pages.dtype}, expected the same for all"
    )
