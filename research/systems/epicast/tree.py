"""Who infected whom: generations, intervals, how many each infected."""

import numpy as np

from research.systems.epicast import events

COLUMNS = {
  "replicate": events.COLUMNS["replicate"],
  "infected": "agent who was infected",
  "infector": "agent who did it; none for index cases",
  "step": events.COLUMNS["step"],
  "day": events.COLUMNS["day"],
  "fips": events.COLUMNS["fips"],
  "context": "where it happened; none for index cases",
  "generation": "infections back to an index case, which is 0",
  "generation_interval": "days from the infector's infection to this one",
  "serial_interval": "days from the infector's symptoms to these; none unless "
  "both had symptoms by the end",
  "cases": "agents whom this one infected by the end",
  "over": "whether this one had recovered by the end, so cases are final",
}


def grow(log: events.Table) -> events.Table:
  """Makes the transmission tree of one replicate.

  Args:
    log: its events.

  Returns:
    Columns of `COLUMNS`, a row for each infection, in the log's order. Steps
    are half-days, so intervals are multiples of half a day.

  Example:
    >>> log = {
    ...   "replicate": np.zeros(4, int), "fips": np.ones(4, int),
    ...   "step": np.array([-1, 5, 7, 9]), "day": np.array([-1, 2, 3, 4]),
    ...   "agent": np.array([3, 8, 3, 4]), "by": np.array([-1, 3, -1, 8]),
    ...   "event": np.array(["infected"] * 2 + ["recovered", "infected"]),
    ...   "context": np.array([None, "work", None, "class"], object)}
    >>> tree = grow(log)
    >>> tree["generation"].tolist(), tree["cases"].tolist()
    ([0, 1, 2], [1, 1, 0])
    >>> tree["generation_interval"].tolist()
    [nan, 3.0, 2.0]
  """
  rows = log["event"] == "infected"
  agent, by = log["agent"][rows], log["by"][rows]
  size = 1 + int(log["agent"].max(initial=0))
  passed = by >= 0
  infector = np.where(passed, by, 0)
  step, ill = _when(log, rows, size), _when(log, _is(log, "symptomatic"), size)
  over = np.isfinite(_when(log, _is(log, "recovered"), size))
  between = lambda when: np.where(
    passed, (when[agent] - when[infector]) / 2, np.nan
  )
  tree = {
    "replicate": log["replicate"][rows],
    "infected": agent,
    "infector": np.ma.masked_less(by, 0),
    **{name: log[name][rows] for name in ("step", "day", "fips", "context")},
    "generation": _generations(agent, by, size),
    "generation_interval": between(step),
    "serial_interval": between(ill),
    "cases": np.bincount(by[passed], minlength=size)[agent],
    "over": over[agent],
  }
  return {name: tree[name] for name in COLUMNS}


def cohorts(tree: events.Table, days: int) -> np.ndarray:
  r"""Case reproduction number of those infected on each day.

  $R_c(t)$ is the mean number of cases of the cohort infected on day $t$; it
  looks ahead, where Cori's $R_t$ looks back. NaN where nobody was infected or
  somebody of the cohort may still infect.

  Args:
    tree: of `grow`.
    days: of the run.

  Returns:
    From day -1, that of index cases, to the last one, `[1 + days]`.

  References:
    Fraser, Estimating individual and household reproduction numbers in an
    emerging epidemic, PLoS ONE 2, 2007.
  """
  day = tree["day"] + 1
  count = lambda weight: np.bincount(day, weight, 1 + days)
  infected, cases = count(None), count(tree["cases"])
  final = (infected > 0) & (count(tree["over"]) == infected)
  return np.divide(cases, infected, out=np.full(1 + days, np.nan), where=final)


def shares(tree: events.Table, contexts: tuple[str, ...]) -> np.ndarray:
  """Share of infections by contact that happened in each context."""
  counts = np.array([(tree["context"] == name).sum() for name in contexts])
  total = max(counts.sum(), 1)
  return counts / total


def _is(log: events.Table, event: str) -> np.ndarray:
  return log["event"] == event


def _when(log: events.Table, rows: np.ndarray, size: int) -> np.ndarray:
  """Step of each agent's event; NaN if there is none."""
  when = np.full(size, np.nan)
  when[log["agent"][rows]] = log["step"][rows]
  return when


def _generations(agent: np.ndarray, by: np.ndarray, size: int) -> np.ndarray:
  """Distance from index cases, all agents of a generation at a time."""
  found = np.full(size + 1, -2)
  found[-1] = -1  # what infected index cases
  while (open_ := found[agent] == -2).any():
    ready = open_ & (found[by] > -2)
    if not ready.any():
      raise RuntimeError("an infector was never infected")
    found[agent[ready]] = found[by[ready]] + 1
  return found[agent]
