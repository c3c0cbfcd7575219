"""Who passed it on, beside the chances of all pairs."""

import numpy as np
import pytest
from scipy import stats

from research.systems.epicast import events, policies
from research.systems.epicast.disease import CONTEXTS
from tests.systems.epicast import cases, logs, oracle

SEEDS, DAYS = 60, 3


class _Pairs(oracle.Oracle):
  """Keeps what every pair did in each half of the last day.

  Attributes:
    told: by half-day, hazards by context and source, of infection and of fear.
  """

  def day(self, day):
    self.today, self.told = day, []
    super().day(day)

  def _half(self, u, names, day, media):
    self.told.append({"infected": {}, "fearful": {}})
    before = self.stage
    super()._half(u, names, day, media)
    sick = (before == oracle.P) & (self.stage == oracle.IS)
    well = (before == oracle.IS) & (self.stage == oracle.RS)
    for source, hazard in {
      "own symptoms": self.fear.phi_self * sick,
      "own recovery": np.where(well, -np.log1p(-self.fear.rho_f), 0),
      "broadcaster": media * self.media,
    }.items():
      self.told[-1]["fearful"][None, source] = hazard[:, None]

  def _contagion(self, name, there, scale):
    emits, takes, _ = self._behaviour(self.today)
    column = CONTEXTS.index(name)
    weight = np.rint(64 * self.kappa[self.stage] * emits[:, column]) / 64
    pairs = -np.log1p(-self.chance[name]) * weight[None]
    pairs = np.where(self.meet[name], pairs, 0)
    pairs = pairs * (takes[:, column] * scale)[:, None]
    self.told[-1]["infected"][name, "contact"] = pairs
    met = self.meet[name] & there[:, None] & there[None]
    met &= ~np.eye(len(there), dtype=bool)
    rate = (self.fear.weights.get(name, 0) * scale)[:, None] * met
    fear, sick = self.fear, self.stage == oracle.IS
    self.told[-1]["fearful"] |= {
      (name, "fearful contact"): rate * fear.phi_ff * self.fearful,
      (name, "sick contact"): rate * fear.phi_sf * sick,
    }
    super()._contagion(name, there, scale)


def _truth():
  people = cases.population()
  rules = policies.compile_changes(logs.CHANGES, people.fips)
  since, scales = np.asarray(rules.since), np.asarray(rules.scale)
  row = lambda day: np.searchsorted(since, day, side="right") - 1
  return _Pairs(
    people,
    cases.HISTORY,
    cases.STRONG,
    np.arange(0, len(people), 40),
    scale=lambda day: scales[row(day)],
    orders=lambda day: np.asarray(rules.orders)[row(day)] / 256,
    fear=logs.FEAR,
  )


@pytest.fixture(scope="module")
def drawn():
  """Days' hazards of pairs, and events of them drawn by many seeds."""
  log, states, _ = logs.alone()
  world, _ = logs.start()
  news = np.bincount(log["day"][log["event"] == "infected"] + 1)[1:]
  truth, found = _truth(), {}
  for day in range(logs.DAYS):
    truth.day(day)
    if news[day] < np.sort(news)[-DAYS]:
      continue
    rows = [
      events.Recorder(
        cases.population(), cases.HISTORY, cases.STRONG, logs.FEAR, seed=seed
      ).day(world, *states[day : day + 2])
      for seed in range(SEEDS)
    ]
    found[day] = truth.told, rows
  return found


@pytest.mark.parametrize("event", ["infected", "fearful"])
def test_trap_01_contexts_and_people_have_the_chances_of_pairs(drawn, event):
  """Chi-square over all events of the days with most infections."""
  statistic, freedom, seen = 0.0, 0, set()
  for told, rows in drawn.values():
    for half, tables in enumerate(told):
      names, chance = zip(*tables[event].items(), strict=True)
      which = (rows[0]["event"] == event) & (rows[0]["half"] == half)
      for row in np.flatnonzero(which):
        agent, counts = rows[0]["agent"][row], {}
        for table in rows:
          assert table["agent"][row] == agent
          key = (table["context"][row], table["source"][row]), table["by"][row]
          counts[key] = counts.get(key, 0) + 1
        wanted = {
          (name, by if name[0] else -1): hazard
          for name, pairs in zip(names, chance, strict=True)
          for by, hazard in enumerate(pairs[agent])
          if hazard > 0
        }
        assert set(counts) <= set(wanted)
        total = sum(wanted.values())
        rare = [0.0, 0]
        cells = []
        for key, hazard in wanted.items():
          cell = SEEDS * hazard / total, counts.get(key, 0)
          if cell[0] >= 5:
            cells.append(cell)
            seen.add(key[0])
          else:
            rare = [rare[0] + cell[0], rare[1] + cell[1]]
        if rare[0] >= 5:
          cells.append((rare[0], rare[1]))
        if len(cells) > 1:
          expected, observed = np.array(cells).T
          statistic += ((observed - expected) ** 2 / expected).sum()
          freedom += len(cells) - 1
  assert freedom > 50
  assert len(seen) >= 5
  assert stats.chi2.sf(statistic, freedom) > 0.01
  assert stats.chi2.cdf(statistic, freedom) > 0.001
