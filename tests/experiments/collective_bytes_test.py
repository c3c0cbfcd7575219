"""Bytes counted in compiled programs are those of the schedules."""

import functools

import jax
import jax.numpy as jnp
import pytest
from jax import lax
from jax.sharding import PartitionSpec

import collectives
from collectives import schedule as sched
from experiments.tools import collective_bytes
from research import mesh

_AXES = ("node", "local")
_BYTES = 4 * 64  # of a rank's buffer
_GRID = sched.Grid(2, 2)


def _count(body) -> collective_bytes.Sent:
  ranks = PartitionSpec(_AXES)
  step = jax.jit(
    jax.shard_map(
      body,
      mesh=mesh.make_mesh({"node": 2, "local": 2}),
      in_specs=ranks,
      out_specs=ranks,
    )
  )
  x = jax.ShapeDtypeStruct((4 * 64,), jnp.float32)
  text = step.lower(x).compile().as_text()
  assert text
  return collective_bytes.count(text, _GRID)


def _reduce(x, algorithm):
  return collectives.all_reduce(x, _AXES, algorithm=algorithm) * jnp.ones(64)


@pytest.mark.parametrize(
  ("algorithm", "rank", "port"),
  [
    # 2 (p - 1) / p M; one rank of a node sends to the other node.
    ("ring", 1.5, 1.5),
    ("xla", 1.5, 1.5),
    # log2 p M; both ranks of a node send M once.
    ("recursive_doubling", 2.0, 2.0),
    # M / 2 scattered, M / 2 gathered, and M / 2 to the other node.
    ("nvrar", 1.5, 1.0),
  ],
)
def test_all_reduces_send_what_their_formulas_say(algorithm, rank, port):
  found = _count(functools.partial(_reduce, algorithm=algorithm))
  assert found.rank == rank * _BYTES
  assert found.port == port * _BYTES


@pytest.mark.parametrize("algorithm", ["xla", "recursive", "pccl_ring"])
def test_a_gather_counts_what_is_gathered(algorithm):
  def gather(x):
    full = collectives.all_gather(x, _AXES, algorithm=algorithm, tiled=True)
    return full.reshape(4, -1).sum(0)

  assert _count(gather).rank == 3 * _BYTES


@pytest.mark.parametrize("algorithm", ["xla", "recursive", "pccl_ring"])
def test_a_scatter_counts_what_was_not_scattered_yet(algorithm):
  def scatter(x):
    part = collectives.reduce_scatter(x, _AXES, algorithm=algorithm, tiled=True)
    return jnp.tile(part, 4)

  assert _count(scatter).rank == 0.75 * _BYTES


def test_trap_a_loop_counts_as_often_as_it_runs():
  """Trap: the text of a program has a loop's collectives once."""

  def loop(x):
    turn = lambda x, _: (x + _reduce(x, "ring"), None)
    return lax.scan(turn, x, None, length=5)[0]

  assert _count(loop).rank == 5 * 1.5 * _BYTES


_WHILE = """
%body.1 (p: f32[64]) -> f32[64] {
  %a = f32[64]{0} collective-permute(%p), source_target_pairs={{0,2},{1,3}}
}

ENTRY %main (p: f32[64]) -> f32[64] {
  %w = f32[64]{0} while(%p), condition=%cond, body=%body.1
}
"""


def test_a_loop_of_unknown_length_is_refused():
  with pytest.raises(ValueError, match=r"loop over body\.1 .* no trip count"):
    collective_bytes.count(_WHILE, _GRID)


def test_only_messages_between_nodes_pass_the_port():
  known = _WHILE.replace(
    "body=%body.1", 'body=%body.1, {"known_trip_count":{"n":"3"}}'
  )
  found = collective_bytes.count(known, _GRID)
  assert found == collective_bytes.Sent(rank=1.5 * _BYTES, port=6.0 * _BYTES)


@pytest.mark.parametrize(
  ("groups", "port"),
  [
    ("{{0,1},{2,3}}", 0.0),
    ("[2,2]<=[4]", 0.0),
    ("[2,2]<=[2,2]T(1,0)", 2.0),
    ("{{0,2},{1,3}}", 2.0),
  ],
)
def test_groups_are_read_as_xla_writes_them(groups, port):
  line = f"  %a = bf16[128]{{0}} all-gather(%p), replica_groups={groups}, d=1"
  text = f"ENTRY %main (p: bf16[64]) -> bf16[128] {{\n{line}\n}}\n"
  found = collective_bytes.count(text, _GRID)
  assert found == collective_bytes.Sent(rank=128.0, port=128.0 * port)
