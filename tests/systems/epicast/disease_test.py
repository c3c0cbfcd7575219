"""Lengths of stages, withdrawal, and every parameter's effect."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from research.runs import errors
from research.systems.epicast import disease, draws
from research.systems.epicast.disease import Stage
from tests.systems.epicast import cases

AGENTS = 40_000


@pytest.fixture(scope="module")
def histories():
  """Stage and withdrawal of people infected at once, `[half-days, agents]`."""
  agent = jnp.arange(AGENTS, dtype=jnp.uint32)
  age = (agent % 5).astype(jnp.uint8)
  course = disease.draw_courses(
    disease.Disease(), draws.key(0, "course"), agent, age
  )
  stage, timer = disease.infect(
    jnp.zeros(AGENTS, jnp.uint8),
    jnp.zeros(AGENTS, jnp.uint8),
    course,
    jnp.ones(AGENTS, bool),
  )

  def half(state, _):
    state = disease.progress(state[0], state[1], course, jnp.uint8(1))
    return state, (state[0], disease.withdrawn(*state, course))

  _, found = jax.jit(lambda s: jax.lax.scan(half, s, length=40))((stage, timer))
  return tuple(np.asarray(part) for part in found)


def _pmf(cdf):
  return np.diff(np.append(0, cdf))


def _close(lengths, days, cdf):
  """Half-days have the distribution of the days, by χ² at 99.9 %."""
  expected = 2 * len(lengths) / 2 * _pmf(cdf)
  counts = np.array([(lengths == 2 * day).sum() for day in days])
  assert counts.sum() == len(lengths)
  assert ((counts - expected) ** 2 / expected).sum() < 22.5  # 6 degrees


def test_trap_08_stages_last_as_their_distributions_say(histories):
  """Not a hazard a half-day, and no stage's first or last step counts twice."""
  stage, _ = histories
  history = disease.Disease()
  # They came into E at the end of a half-day that is not recorded.
  exposed = (stage == Stage.E).sum(0) + 1
  _close(exposed, range(1, 8), history.latent_cdf)
  assert ((stage == Stage.P).sum(0) == 2).all()
  ill = ((stage == Stage.IS) | (stage == Stage.IA)).sum(0)
  _close(ill, range(3, 10), history.infectious_cdf)
  silent = (stage[-1] == Stage.RA).mean()
  assert abs(silent - 0.4) < 4 * np.sqrt(0.24 / AGENTS)
  assert np.isin(stage[-1], (Stage.RS, Stage.RA)).all()


def test_withdrawal_follows_the_table_of_days(histories):
  stage, home = histories
  assert not home[stage != Stage.IS].any()
  age = np.arange(AGENTS) % 5
  first = (stage == Stage.IS).argmax(0)
  sick = np.flatnonzero((stage == Stage.IS).any(0))
  for group, chances in enumerate(disease.Disease().withdrawal):
    who = sick[age[sick] == group]
    sigma = np.sqrt(0.25 / len(who))
    for day, chance in enumerate(chances):
      share = home[first[who] + 2 * day, who].mean()
      assert abs(share - chance) < 4 * sigma


def _last(contact=cases.STRONG, history=cases.HISTORY):
  world = cases.world(contact, history=history)
  state, _ = cases.run(world, cases.start(world, history=history), 30)
  return np.asarray(state.stage)


_OTHER = {
  "latent_cdf": (0.5, 1.0),
  "infectious_cdf": (0.5, 1.0),
  "latent_first": 2,
  "infectious_first": 4,
  "presymptomatic_days": 2,
  "withdrawal": ((1.0, 1.0, 1.0),) * 5,
}


def _changes():
  for part in (cases.HISTORY, cases.STRONG):
    for field in dataclasses.fields(part):
      value = getattr(part, field.name)
      if field.name in _OTHER:
        value = _OTHER[field.name]
      else:
        value = (0.5 * np.array(value)).tolist()
      yield pytest.param(part, field.name, value, id=field.name)


@pytest.mark.parametrize(("part", "name", "value"), list(_changes()))
def test_trap_09_every_parameter_changes_who_is_ill(part, name, value):
  value = tuple(value) if isinstance(value, list) else value
  other = dataclasses.replace(part, **{name: value})
  of_history = isinstance(part, disease.Disease)
  found = _last(history=other) if of_history else _last(other)
  assert (found != _last()).any()


@pytest.mark.parametrize(
  ("make", "message"),
  [
    (lambda: disease.Disease(p_asymptomatic=1.5), "got 1.5; expected from 0"),
    (lambda: disease.Disease(latent_cdf=(0.5, 0.4, 1.0)), "rise to 1"),
    (lambda: disease.Disease(presymptomatic_days=0), "shorter than a day"),
    (lambda: disease.Contacts(p_trans=-0.1).hazards(), "household_child: p_tr"),
    (lambda: disease.Contacts(p_trans=1.0).hazards(), "lower p_trans"),
  ],
)
def test_wrong_parameters_are_told_in_one_line(make, message):
  with pytest.raises(errors.UserError, match=message) as caught:
    make()
  assert "\n" not in str(caught.value)
