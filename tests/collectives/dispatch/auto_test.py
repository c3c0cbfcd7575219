"""`algorithm="auto"`, as programs see it."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import collectives
from collectives import dispatch
from collectives.dispatch import choices, environment
from tests.collectives import cases


def _part(small, large, smallest=1):
  until = ((256, small), (2**20, large))
  return (choices.Part(("int32",), (choices.Range(2, 2, smallest, until),)),)


_CHOICES = dispatch.Choices(
  {
    "all_reduce": _part("nvrar", "xla"),
    "all_gather": _part("pccl_recursive", "ring"),
    "reduce_scatter": _part("pccl_ring", "recursive"),
  }
)


@pytest.fixture
def tuned(tmp_path, monkeypatch):
  path = tmp_path / "choices.json"
  _CHOICES.save(path)
  monkeypatch.setenv(environment.CHOICES, str(path))


def _three(names):
  """All three on buffers of 4 * 8 * 4 = 128 and of 512 bytes."""
  reduce, gather, scatter = names

  def body(x, axes):
    own = x.shape[0] // 4  # of what is gathered, a rank's part
    return (
      collectives.all_reduce(x, axes, algorithm=reduce),
      collectives.all_gather(x[:own], axes, tiled=True, algorithm=gather),
      collectives.reduce_scatter(x, axes, tiled=True, algorithm=scatter),
    )

  return body


@pytest.mark.parametrize(
  ("length", "chosen"),
  [
    (32, ("nvrar", "pccl_recursive", "pccl_ring")),
    (128, ("xla", "ring", "recursive")),
  ],
)
@pytest.mark.usefixtures("tuned")
def test_trap_12_auto_is_the_program_of_what_it_chooses(length, chosen):
  """It costs nothing at run time: jaxpr and HLO are the same."""
  x = jnp.asarray(cases.different((2, 2), length))

  def auto(x, axes):
    return _three(("auto",) * 3)(x, axes)

  def named(x, axes):
    return _three(chosen)(x, axes)

  auto, named = cases.per_rank(auto, 2, 2), cases.per_rank(named, 2, 2)
  assert str(jax.make_jaxpr(auto)(x)) == str(jax.make_jaxpr(named)(x))
  assert auto.lower(x).as_text() == named.lower(x).as_text()
  assert collectives.plan(auto, x) == collectives.plan(named, x)
  np.testing.assert_array_equal(auto(x)[0], named(x)[0])


def _chosen(axes, dtype=jnp.int32, algorithm="auto", **how):
  """What an all-reduce of one array of 32 is in the plan."""

  def reduce(x, axes):
    return collectives.all_reduce(x, axes, algorithm=algorithm, **how)

  x = jnp.zeros((4, 32), dtype)
  line = collectives.plan(cases.per_rank(reduce, *axes), x)[1]
  found = re.search("algorithm=(\\w+)", line)
  return found[1] if found else "xla"


def test_without_settings_auto_is_xla():
  assert _chosen((2, 2)) == _chosen((2, 2), algorithm="xla") == "xla"


@pytest.mark.usefixtures("tuned")
def test_each_array_of_a_tree_is_chosen_by_itself():
  def reduce(x, axes):
    tree = {"large": x, "small": x[:8]}
    return collectives.all_reduce(tree, axes, algorithm="auto")

  x = jnp.zeros((4, 128), jnp.int32)
  lines = collectives.plan(cases.per_rank(reduce, 2, 2), x)
  assert [line.split(" ")[0] for line in lines[1:]] == [
    "psum_invariant",
    "schedule_sum",
  ]


@pytest.mark.usefixtures("tuned")
def test_the_dtype_that_travels_chooses():
  assert _chosen((2, 2), jnp.int8) == "xla"  # unknown, and there is no model
  assert _chosen((2, 2), jnp.int8, accumulate=jnp.int32) == "nvrar"


@pytest.mark.usefixtures("tuned")
def test_an_argument_comes_before_the_variables(monkeypatch):
  assert _chosen((2, 2)) == "nvrar"
  monkeypatch.setenv(environment.ALGORITHM, "double_tree")
  assert _chosen((2, 2)) == "double_tree"
  assert _chosen((2, 2), algorithm="ring") == "ring"
  monkeypatch.setenv(environment.ALGORITHM, "all_gather:ring,all_reduce:bruck")
  assert _chosen((2, 2)) == "bruck"
  monkeypatch.setenv(environment.ALGORITHM, "all_gather:ring")
  assert _chosen((2, 2)) == "nvrar"


@pytest.mark.parametrize(
  ("variable", "value", "message"),
  [
    ("ALGORITHM", "rign", "got 'rign', expected one of .*mean 'ring'.*write"),
    ("ALGORITHM", "gather:ring", "got 'gather:ring', expected a name such as"),
    ("ALGORITHM", "nvrar", "got 'nvrar' for a all_reduce over one axis"),
    ("CHOICES", "nowhere.json", "got 'nowhere.json', expected a file that"),
    ("CHOICES", "pyproject.toml", "got 'pyproject.toml', expected a file that"),
  ],
)
def test_a_variable_that_cannot_be_is_named(
  monkeypatch, variable, value, message
):
  name = getattr(environment, variable)
  monkeypatch.setenv(name, value)
  with pytest.raises(ValueError, match=f"^{name}: .*{message}") as caught:
    _chosen((4,))
  assert "\n" not in str(caught.value)


@pytest.mark.usefixtures("tuned")
def test_auto_can_be_differentiated():
  def slope(x, axes):
    return jax.grad(
      lambda y: collectives.all_gather(y, axes, algorithm="auto").sum()
    )(x)

  x = jnp.ones((4, 3))
  got = cases.per_rank(slope, 2, 2)(x)
  np.testing.assert_array_equal(got, np.full((4, 3), 4.0))
