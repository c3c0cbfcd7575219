"""The suites of `experiments.tools.bench` about choosing rows."""

import functools
import math
import time
from collections.abc import Callable, Iterator, Mapping

import jax
import jax.numpy as jnp
import numpy as np

from experiments import policies
from experiments.tools import bench_attention
from kernels_pallas import gpucc, programs
from research.systems.sift_attention import quantiles
from research.systems.sift_attention.policies import base, rules
from research.telemetry import bench, peer

#: Policies that need no scores, so that a kernel keeps none for them.
POLICIES = (
  "dense",
  "streaming_llm:sinks=4",
  "relative_to_max",
  "relative_to_max:target=0.25",
  "power_law",
  "power_law:target=0.25",
  "fixed_beta",
)
_SELECT = "python -m experiments.tools.bench --suite=select"
_PARTS = ("fusion", "sort", "while")
_SHARE = 0.25  # of scores that are kept
_STEPS = 256  # of a policy in one timed call
_TOKENS = 8_192
_ATTENTION = "attention, 25% of rows"

Suite = Iterator[tuple[str, list[bench.BenchResult]]]


def select(
  *,
  rounds: int,
  lengths: tuple[int, ...] = bench_attention.LENGTHS,
  heads: int = bench_attention.SHAPES["SmolLM2"].heads,
) -> Suite:
  """Times finding the quarter of a row's scores that is to be kept.

  All candidates give the same kind of mask; the filter is given its threshold,
  as by a power law, and the others find theirs.

  Args:
    rounds: timed rounds.
    lengths: tokens of context.
    heads: rows of scores.

  Yields:
    A title and its rows, in seconds; then, where there is the GPU compiler,
    what they compile to for an H100, in bytes of scratch memory.
  """
  for tokens in lengths:
    candidates = masks(*make_scores(heads, tokens))
    rows = bench.interleave(candidates, rounds=rounds, command=_SELECT)
    title = f"rows to keep of {heads} heads, {tokens:,} tokens"
    yield title, rows
    if gpucc.find():
      yield f"{title}: compiled for an H100, not run", compiled(candidates)


def compiled(
  candidates: Mapping[str, functools.partial],
) -> list[bench.BenchResult]:
  """Compiles calls for a GPU that is not there.

  Args:
    candidates: jitted functions with their arguments.

  Returns:
    Rows of scratch memory; `meta` counts fusions, sorts and loops.
  """
  rows = []
  for name, call in candidates.items():
    program = programs.assert_compiles(call.func, *call.args)
    parts = {op: len(program.instructions(op)) for op in _PARTS}
    rows.append(
      bench.BenchResult(
        name=name,
        unit="B",
        median=float(program.temp_bytes),
        p25=None,
        p75=None,
        rounds_kept=0,
        rounds_dropped=0,
        kind="compiled",
        command=_SELECT,
        meta=parts,
      )
    )
  return rows


def policy(*, rounds: int, tokens: int = _TOKENS) -> Suite:
  """Times policies beside the attention that they are for.

  A step is a threshold and an update, in a loop of steps that depend on one
  another; its share of attention is the inverse of `ratio_to`.

  Args:
    rounds: timed rounds.
    tokens: of context.

  Yields:
    A title and its rows, in seconds a step.
  """
  for title, shape in bench_attention.SHAPES.items():
    inputs = bench_attention.make_inputs(shape, tokens)
    candidates: dict[str, Callable[[], object]] = {
      _ATTENTION: bench_attention.sifting(inputs, _SHARE)
    }
    for text in POLICIES:
      candidates[text] = policy_steps(
        policies.parse(text).policy, shape.heads, tokens
      )
    rows = bench.interleave(
      candidates,
      rounds=rounds,
      unit="s/step",
      command="python -m experiments.tools.bench --suite=policy",
    )
    yield (
      f"policies of {title}, {tokens:,} tokens",
      bench_attention.against(rows, [_ATTENTION]),
    )


def make_scores(heads: int, tokens: int) -> tuple[jax.Array, jax.Array]:
  """Makes log scores, and the thresholds that keep a quarter of them.

  Args:
    heads: rows of scores.
    tokens: in each row.
  """
  raw = np.random.default_rng(0).standard_normal((1, heads, tokens), np.float32)
  scores = jax.nn.log_softmax(2 * raw)
  level = np.quantile(np.asarray(scores), 1 - _SHARE, axis=-1)
  return scores, jnp.asarray(level, jnp.float32)


def masks(
  scores: jax.Array, threshold: jax.Array
) -> dict[str, functools.partial]:
  """Returns calls that say which scores are kept, by how they find it out.

  Args:
    scores: logs of attention scores.
    threshold: what keeps a quarter of each row.
  """
  tokens = scores.shape[-1]
  lengths = jnp.full(scores.shape[:1], tokens, jnp.int32)
  kept = jnp.where(scores >= threshold[..., None], jnp.exp(scores), 0)
  top_mass = rules.TopMass(float(kept.sum(-1).mean()))

  def counted(row, _):
    found, live = base.scores_of(top_mass, row)
    return quantiles.count_quantile(found, live, 1 - _SHARE)

  def sorted_(row, _):
    return jax.lax.top_k(row.log_scores, int(_SHARE * tokens))[0][..., -1]

  def call(way):
    @jax.jit
    def mask(scores, lengths, threshold):
      row = base.make_row(scores, lengths)
      return scores >= way(row, threshold)[..., None]

    return functools.partial(mask, scores, lengths, threshold)

  return {
    "filter, threshold known": call(lambda _, threshold: threshold),
    "counting quantile": call(counted),
    "jax.lax.top_k": call(sorted_),
    "top mass, bisection": call(lambda row, _: top_mass.threshold((), row)),
  }


def policy_steps(
  of: base.Policy, heads: int, tokens: int
) -> Callable[[], peer.Reply]:
  """Returns a call that runs many steps and says how long one took.

  Args:
    of: the policy.
    heads: of the layer.
    tokens: of context when they start.
  """

  @jax.jit
  def steps(state, log_max):
    def step(index, carry):
      state, log_max = carry
      row = base.Row(jnp.full((1,), tokens, jnp.int32) + index, log_max)
      found = of.threshold(state, row)
      bounded = jnp.clip(found, -math.log(tokens), 0.0)
      kept = (tokens * jnp.exp(bounded)).astype(jnp.int32)
      # The next row depends on this one, so no step can be left out.
      return of.update(state, row, found, kept), log_max + 1e-6 * bounded

    return jax.lax.fori_loop(0, _STEPS, step, (state, log_max))

  state = of.init(1, heads)
  log_max = jnp.full((1, heads), -1.0)

  def call():
    start = time.perf_counter()
    jax.block_until_ready(steps(state, log_max))
    return peer.Reply((time.perf_counter() - start) / _STEPS, {})

  return call
