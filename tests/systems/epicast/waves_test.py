"""The wave rule, on curves whose waves one can see."""

import numpy as np
import pytest

from research.runs import errors
from research.systems.epicast import waves
from research.systems.epicast.disease import Stage

DAYS = np.arange(300)


def _hill(day, height=0.05, width=12.0):
  return height * np.exp(-(((DAYS - day) / width) ** 2))


def test_hills_are_counted_and_placed():
  found = waves.find(_hill(60) + _hill(140, 0.02) + _hill(220, 0.01))
  assert found.days.tolist() == [60, 140, 220]
  np.testing.assert_allclose(found.heights, [0.05, 0.02, 0.01], rtol=0.03)
  np.testing.assert_allclose(found.prominences, found.heights, rtol=0.01)


def test_prominence_is_over_the_higher_low():
  """The second hill stands on the first one's shoulder."""
  step = np.interp(DAYS, [0, 100, 140, 160, 180, 299], [0, 5, 3, 3.5, 3, 0])
  found = waves.find(step / 100, rule=waves.Rule(window=1))
  assert found.days.tolist() == [100, 160]
  np.testing.assert_allclose(found.prominences, [0.05, 0.005], rtol=1e-6)


def test_the_limit_is_the_prominence_and_not_the_height():
  curve = 0.05 + _hill(100, 0.0025) + _hill(200, 0.0018)
  assert waves.find(curve).days.tolist() == [100]
  rule = waves.Rule(prominence=0.0015)
  assert waves.count(curve[None], rule=rule).tolist() == [2]


def test_weekends_are_no_waves():
  week = 1 + 0.5 * (DAYS % 7 < 2)
  assert waves.find(_hill(150) * week).days.size == 1
  assert waves.find(_hill(150) * week, rule=waves.Rule(window=1)).days.size > 3


def test_what_only_falls_or_only_rises_has_no_peak():
  falling = 0.05 * np.exp(-DAYS / 50)
  assert waves.count(np.stack([falling, falling[::-1]])).tolist() == [0, 0]


def test_flat_tops_count_once():
  (day,) = waves.find(np.minimum(_hill(100), 0.03)).days
  assert abs(day - 100) < 12


def test_equal_peaks_with_a_shallow_low_are_one_wave():
  """For `find_peaks` alone both would stand out from the ground."""
  curve = np.interp(DAYS, [0, 100, 102, 104, 299], [0, 0.05, 0.0499, 0.05, 0])
  assert waves.find(curve, rule=waves.Rule(window=1)).days.tolist() == [100]


def test_windows_are_whole():
  """A peak within half a window of an end is not seen, nor is an edge made."""
  curve = np.zeros(100)
  curve[1] = 0.1
  assert waves.find(curve).days.size == 0


def test_trap_07_noise_of_few_people_is_no_wave():
  """One outbreak in small towns, by chance; of 300 runs none has two."""
  rng = np.random.default_rng(0)
  for people in (500, 5000):
    counts = _town(rng, people, runs=150)
    for kind in ("infectious", "new_infections"):
      curves = waves.curve(counts, kind)
      heard = waves.count(curves, people=people)
      assert heard.max() == 1
      if people == 500:  # without the rule for noise they are many
        assert (waves.count(curves) > 1).mean() > 0.1
      else:
        assert (heard == 1).mean() > 0.9  # the outbreak itself is seen


def test_a_second_wave_among_few_people_is_found():
  rng = np.random.default_rng(1)
  expected = 5000 * (_hill(80) + _hill(200, 0.03))
  curve = rng.poisson(expected, (50, len(DAYS))) / 5000
  assert (waves.count(curve, people=5000) == 2).all()


def _town(rng, people, runs, days=200):
  """Susceptible, infectious, recovered by chance, `[runs, days, stages]`."""
  counts = np.zeros((runs, days, len(Stage)), int)
  ill = np.full(runs, people // 50)
  well = people - ill
  for day in range(days):
    counts[:, day, Stage.S], counts[:, day, Stage.IS] = well, ill
    counts[:, day, Stage.RS] = people - well - ill
    new = rng.binomial(well, -np.expm1(-2 / 6 * ill / people))
    left = rng.binomial(ill, -np.expm1(-1 / 6))
    well, ill = well - new, ill + new - left
  return counts


def test_curves_of_stages():
  counts = np.zeros((3, len(Stage)), int)
  counts[:, [Stage.S, Stage.E, Stage.P]] = [[90, 5, 5], [80, 9, 4], [70, 9, 5]]
  counts[:, [Stage.IS, Stage.IA]] = [[0, 0], [3, 2], [6, 4]]
  counts[:, [Stage.RS, Stage.RA]] = [[0, 0], [1, 1], [4, 2]]
  counts[:, Stage.ABSENT] = 12  # fills arrays up, and is nobody
  curve = lambda kind: waves.curve(counts, kind).round(6).tolist()
  assert curve("infectious") == [0.05, 0.09, 0.15]
  assert curve("symptomatic") == [0, 0.03, 0.06]
  assert curve("new_infections") == [0.1, 0.1]
  assert curve("new_symptoms") == [0.04, 0.06]


@pytest.mark.parametrize(
  ("call", "message"),
  [
    (lambda: waves.Rule(window=4), "window: got 4; expected an odd number"),
    (lambda: waves.Rule(prominence=0.0), "expected a share above 0"),
    (lambda: waves.find(np.zeros(7)), "got a curve of 7 days; expected more"),
    (lambda: waves.find(np.full(9, np.nan)), "and finite values"),
  ],
)
def test_bad_values_end_with_one_line(call, message):
  with pytest.raises(errors.UserError, match=message) as caught:
    call()
  assert "\n" not in str(caught.value)
