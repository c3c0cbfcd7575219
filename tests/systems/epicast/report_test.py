"""Generation intervals, reproduction numbers and attack rates."""

import itertools
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from pyarrow import parquet

from research.systems.epicast import disease, report


@pytest.mark.parametrize(
  "history",
  [
    disease.Disease(),
    disease.Disease(
      latent_first=2,
      presymptomatic_days=2,
      infectious_first=1,
      infectious_cdf=(0.25, 1.0),
      p_asymptomatic=0.9,
      rel_trans_asymptomatic=0.25,
    ),
  ],
)
def test_intervals_are_those_of_the_state_machine(history):
  """An agent of each course goes through its stages; what it passes on."""
  latent = np.diff(history.latent_cdf, prepend=0)
  infectious = np.diff(history.infectious_cdf, prepend=0)
  share = history.p_asymptomatic
  chance, course = [], []
  for (i, one), (j, other), (k, last) in itertools.product(
    enumerate(latent), enumerate(infectious), enumerate((1 - share, share))
  ):
    chance.append(one * other * last)
    days = (history.latent_first + i, history.infectious_first + j)
    course.append(days[0] | days[1] << 5 | k << 10)
  course = jnp.array(course, jnp.uint16)
  gives = disease.infectiousness(history)
  found = np.zeros(60)
  stage = jnp.zeros(course.shape, jnp.uint8)
  stage, timer = disease.infect(stage, stage, course, stage == 0)
  progress = jax.jit(disease.progress)
  length = jnp.uint8(history.presymptomatic_days)
  for half in range(1, 60):
    stage, timer = progress(stage, timer, course, length)
    found[half] = gives[np.asarray(stage)] @ chance
  # Half were infected by day: what follows is half a day earlier in the day.
  days = np.zeros(31)
  for shift in (0, 1):
    np.add.at(days, (np.arange(60) + shift) // 2, found)
  days /= days.sum()
  wanted = report.generation_interval(history)
  np.testing.assert_allclose(days[: len(wanted)], wanted, atol=1e-12)
  assert days[len(wanted) :].sum() == 0


def test_a_known_reproduction_number_is_found():
  """Two stretches of a renewal process, without noise."""
  weights = report.generation_interval(disease.Disease())
  truth = np.where(np.arange(120) < 60, 1.8, 0.7)
  incidence = np.zeros(120)
  incidence[0] = 4000
  for day in range(1, 120):
    lags = np.arange(1, min(day, len(weights) - 1) + 1)
    incidence[day] = truth[day] * weights[lags] @ incidence[day - lags]
  found = report.reproduction(np.rint(incidence).astype(int), weights)
  assert np.isnan(found[: report.WINDOW]).all()
  np.testing.assert_allclose(found[12:60], 1.8, rtol=0.01)
  np.testing.assert_allclose(found[60 + report.WINDOW : 110], 0.7, rtol=0.01)


def test_few_infections_have_no_reproduction_number():
  weights = np.array([0, 0.5, 0.5])
  few, many = np.ones(30, int), np.full(30, 2)
  found = report.reproduction(np.stack([few, many]), weights)
  assert np.isnan(found[0]).all()
  # (1 + 14) / (1 / 5 + 14)
  np.testing.assert_allclose(found[1, report.WINDOW + 2 :], 15 / 14.2)


def test_a_report_counts_counties_ages_and_replicates(tmp_path):
  """Two replicates, two counties, two ages, by hand."""
  fips, ages, days = [1, 2], ["0-5", "6-17"], 20
  news = np.zeros((2, days, 2), int)
  news[0, 3], news[1, 5] = (30, 10), (12, 0)
  infected = np.array([[[20, 12], [10, 0]], [[5, 9], [0, 0]]])  # 2 seeds in 1
  rows = news.size
  daily = {
    "replicate": np.repeat([0, 1], rows // 2),
    "day": np.tile(np.repeat(np.arange(days), 2), 2),
    "date": np.full(rows, np.datetime64("NaT", "D")),
    "fips": np.array(fips * 2 * days),
    "new_infections": news.ravel(),
  }
  by_age = {
    "replicate": np.repeat([0, 1], 4),
    "fips": np.array([1, 1, 2, 2] * 2),
    "age": np.array(ages * 4, object),
    "residents": np.array([40, 60, 50, 0] * 2),
    "infected": infected.ravel(),
  }
  found = report.write(tmp_path, daily, by_age, disease.Disease())
  assert found["attack_rate"]["mean"] == pytest.approx(
    (42 / 150 + 14 / 150) / 2
  )
  assert found["peak_day"]["q50"] == 4
  assert found["peak_new_infections"]["q95"] == pytest.approx(0.95 * 28 + 12)
  attack = parquet.read_table(tmp_path / "attack.parquet").to_pylist()
  of = {(row["fips"], row["age"]): row for row in attack}
  assert len(of) == 9
  assert of[1, "0-5"]["mean"] == pytest.approx((20 / 40 + 5 / 40) / 2)
  assert of[1, None]["residents"] == 100
  assert of[None, "6-17"]["q50"] == pytest.approx((12 / 60 + 9 / 60) / 2)
  assert of[2, "6-17"]["mean"] is None
  assert of[2, "6-17"]["replicates"] == 0
  assert of[None, None]["q05"] == pytest.approx((14 + 0.05 * 28) / 150)
  rt = parquet.read_table(tmp_path / "rt.parquet").to_pylist()
  assert len(rt) == days * 3
  by_hand = np.zeros((2, days + 1), int)  # on day -1 the index cases
  by_hand[0, [0, 4]], by_hand[1, [0, 6]] = (2, 40), (2, 12)
  weights = report.generation_interval(disease.Disease())
  wanted = report.reproduction(by_hand, weights)[:, 1:].mean(0)
  assert rt[3 * 6 + 2]["mean"] == pytest.approx(wanted[6])
  assert {row["replicates"] for row in rt} == {0, 1, 2}
  assert json.loads((tmp_path / "report.json").read_text())["replicates"] == 2
