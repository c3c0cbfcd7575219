"""Where theory knows the answer: households, and one well-mixed group."""

import dataclasses
import functools
import json
import math
import pathlib

import numpy as np
import pytest
from scipy import stats

from research.systems.epicast import disease, engine
from research.systems.epicast.disease import Stage
from research.systems.epicast.population import people
from research.systems.epicast.surrogates import model, solve
from research.systems.epicast.surrogates.parameters import Parameters

_NOWHERE = disease.Contacts(
  p_trans=1.0,
  household_factor=0,
  cluster_factor=0,
  neighbourhood_factor=0,
  community_factor=0,
  work_factor=0,
  class_factor=0,
)
_SIMPLE = disease.Disease(
  p_asymptomatic=0, rel_trans_asymptomatic=0, withdrawal_scalar=0
)


def _village(household: np.ndarray) -> people.Population:
  """Adults of one neighbourhood who stay at home all day."""
  size = len(household)
  households = int(household[-1]) + 1
  cluster = np.arange(households) // 4
  day = np.arange(size) // 500  # what a group of the day can count
  one, days = np.zeros(1, np.int32), np.zeros(day[-1] + 1, np.int32)
  return people.Population(
    household=household.astype(np.int32),
    group=day.astype(np.int32),
    age=np.full(size, 3, np.uint8),
    quarters=np.zeros(households, bool),
    cluster=cluster.astype(np.int32),
    neighbourhood=np.zeros(cluster[-1] + 1, np.int32),
    community=one,
    county=one,
    tract=one,
    fips=np.array([1]),
    kind=days,
    school=days,
    place=days,
    accounts={},
  ).check()


def _run(village, history, contacts, index_cases, *, days, seed=0):
  world = engine.load(village, history, contacts)
  start = engine.start(world, history, index_cases, seed=seed)
  return engine.run(world, start, days=days)


_ESCAPES, _NIGHTS = 0.8, 3  # chance to escape one ill member in one night


@functools.cache
def _final_sizes(number: int) -> dict[int, np.ndarray]:
  """How many of households by size had how many infected, one index case each.

  Everybody is ill for three days, so whoever escapes an ill member escapes
  three nights. With periods all alike the final size has the law of
  Reed-Frost, whatever the latent periods are, which are random here.
  """
  sizes = np.resize(np.arange(2, 6), number)
  first = np.cumsum(sizes) - sizes
  chance = 1 - _ESCAPES
  contacts = dataclasses.replace(
    _NOWHERE,
    household_factor=1,
    household_adult=(chance, chance, chance, chance, chance),
  )
  history = dataclasses.replace(
    _SIMPLE, infectious_cdf=(1.0,), infectious_first=_NIGHTS
  )
  village = _village(np.repeat(np.arange(number), sizes))
  state, _ = _run(village, history, contacts, first, days=60)
  stage = np.asarray(state.stage)[: sizes.sum()]
  ever = np.add.reduceat((stage != Stage.S).astype(int), first)
  assert not ((stage > Stage.S) & (stage < Stage.RS)).any(), "still ill"
  return {
    n: np.bincount(ever[sizes == n], minlength=n + 1)[1:]
    for n in np.unique(sizes).tolist()
  }


def _reed_frost(members: int, escape: float) -> np.ndarray:
  """Chances of 1, ..., `members` infected in the end, of one at first.

  With k susceptible and i ill members each of the former escapes with chance
  `escape`^i, and who does not is ill in the next generation.
  """

  @functools.cache
  def end(susceptible: int, ill: int) -> tuple[float, ...]:
    chances = np.zeros(members + 1)
    if not ill:
      chances[members - susceptible] = 1.0
      return tuple(chances)
    for new in range(susceptible + 1):
      weight = stats.binom.pmf(new, susceptible, 1 - escape**ill)
      chances += weight * np.array(end(susceptible - new, new))
    return tuple(chances)

  return np.array(end(members - 1, 1))[1:]


def _p_value(found: dict[int, np.ndarray], escape: float) -> float:
  chi, freedom = 0.0, 0
  for members, counts in found.items():
    expected = counts.sum() * _reed_frost(members, escape)
    chi += float(((counts - expected) ** 2 / expected).sum())
    freedom += members - 1
  return float(stats.chi2.sf(chi, freedom))


def test_households_have_the_final_sizes_of_reed_and_frost():
  found = _final_sizes(100_000)
  escape = _ESCAPES**_NIGHTS
  assert _p_value(found, escape) > 0.01
  for wrong in (_NIGHTS - 0.5, _NIGHTS + 0.5):  # half a night more or less
    assert _p_value(found, _ESCAPES**wrong) < 1e-9
  assert _p_value(found, escape * 1.01) < 0.01


def _geometric(mean: float | int) -> tuple[float, ...]:
  """Whole days that a constant chance would end, 31 at most."""
  cdf = 1 - (1 - 1 / mean) ** np.arange(1, 32)
  cdf[-1] = 1.0
  return tuple(cdf.tolist())


_LATENT, _ILL = _geometric(6), _geometric(8)
_MIXED = dataclasses.replace(
  _SIMPLE,
  latent_cdf=_LATENT,
  infectious_cdf=_ILL,
  infectious_first=1,
)
_DAYS, _BETA = 120, 0.2


def _mean_days(cdf: tuple[float, ...]) -> float:
  return 1 + sum(1 - chance for chance in cdf)


@functools.cache
def _mixed(
  size: int,
  share: float,
  *,
  beta: float = _BETA,
  days: int = _DAYS,
  seed: int = 0,
) -> np.ndarray:
  """Shares by day and stage; everybody meets everybody, day and night."""
  chance = beta / (2 * size)
  contacts = dataclasses.replace(
    _NOWHERE,
    neighbourhood_factor=1,
    neighbourhood=(chance, chance, chance, chance, chance),
  )
  village = _village(np.arange(size) // 4)
  cases = np.arange(round(share * size))
  _, daily = _run(village, _MIXED, contacts, cases, days=days, seed=seed)
  return np.asarray(daily.stages)[:, 0] / size


@pytest.mark.parametrize(
  "size",
  [
    pytest.param(1_000, marks=pytest.mark.slow),
    3_000,
    pytest.param(10_000, marks=pytest.mark.slow),
  ],
)
def test_one_group_is_near_the_equations_on_every_day(size):
  """Stages that end with a constant chance a day, as the equations have them.

  A fifth is infected at the start: then days instead of moments matter less
  than chance does.
  """
  seir = model.Model("SEPIR×NF", exposed=True, presymptomatic=True)
  start = Parameters(
    beta=_BETA,
    latent_days=_mean_days(_LATENT),
    infectious_days=_mean_days(_ILL),
    rel_trans_presymptomatic=0.0,
    infected=0.2,
  )
  expected = seir.by_stage(solve.solve(seir, start, days=_DAYS))[1:]
  found = _mixed(size, 0.2)
  assert np.abs(found - np.asarray(expected)).max() < 3 / math.sqrt(size)


def test_trap_08_a_large_group_is_its_mean_on_every_day():
  """The same half-days and stages with shares in the place of people.

  Half a day, or one night, more or less in a stage would be seen.
  """
  size, share = 100_000, 0.02
  limit = 3 / math.sqrt(size)
  found = _mixed(size, share)[:, Stage.S]
  assert np.abs(found - _mean_field(share)).max() < limit
  for more in (-1, 1):
    assert np.abs(found - _mean_field(share, more)).max() > limit


def _mean_field(share: float, more: int = 0) -> np.ndarray:
  """Share susceptible at each day's end, of infinitely many people.

  Args:
    share: infected before the first half-day.
    more: half-days by which everybody is ill longer.
  """
  chance = lambda cdf: np.diff((0.0, *cdf))
  steps = 2 * _DAYS
  ill = np.zeros(steps + 200)  # by half-days since infection
  for latent, p in enumerate(chance(_LATENT), start=1):
    for days, q in enumerate(chance(_ILL), start=1):
      begin = 2 * (latent + _MIXED.presymptomatic_days)
      ill[begin : begin + 2 * days + more] += p * q
  susceptible, new = [1 - share], [share]
  for step in range(1, steps + 1):
    infectious = float(np.dot(new, ill[step:0:-1]))
    left = susceptible[-1] * math.exp(-_BETA / 2 * infectious)
    new.append(susceptible[-1] - left)
    susceptible.append(left)
  return np.array(susceptible)[2::2]


_STARSIM = pathlib.Path(__file__).parents[2] / "golden" / "starsim.json"


def test_final_sizes_are_those_of_starsim_at_its_reproduction_numbers():
  """Within 2 %, on average over seeds."""
  recorded = json.loads(_STARSIM.read_text(encoding="utf-8"))
  for row in recorded["rows"]:
    beta = row["reproduction_number"] / _mean_days(_ILL)
    run = functools.partial(_mixed, recorded["people"], recorded["share"])
    attacks = [
      1 - run(beta=beta, days=250, seed=seed)[-1, Stage.S] for seed in range(2)
    ]
    want = float(np.mean(row["attacks"]))
    assert float(np.mean(attacks)) == pytest.approx(want, rel=0.02)
