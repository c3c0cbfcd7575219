"""Who passed it on: draws a contact in proportion to its hazard.

Given that somebody was infected, or frightened, in half a day, a contact was
the one with a chance in proportion to its hazard. A context is drawn in
proportion to the hazard of all contacts there, then one of them in proportion
to its weight, a whole number. Only those who were infected are looked at, and
those who could have infected them.
"""

from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int, UInt32

from research.systems.epicast import draws
from research.systems.epicast.disease import CONTEXTS
from research.systems.epicast.population.people import Kind, Population

HALVES = (CONTEXTS[4:], CONTEXTS[:4])  # contexts by day and by night


class Groups(NamedTuple):
  """Where some agents meet others in a context.

  Attributes:
    outer: group whose members meet.
    inner: part of it whose members do not meet each other there.
    there: who is in such a group.
  """

  outer: np.ndarray
  inner: np.ndarray
  there: np.ndarray


def groups(
  population: Population, agent: Int[np.ndarray, " n"], context: str
) -> Groups:
  """Groups of agents in a context; nobody meets himself.

  Args:
    population: who there is.
    agent: identities.
    context: one of `disease.CONTEXTS`.
  """
  people, group = population, population.group[agent]
  house, kind = people.household[agent], people.kind[group]
  cluster = people.cluster[house]
  by_day = context.startswith("day_")
  spot = people.place[group] if by_day else people.neighbourhood[cluster]
  everybody = np.full(len(agent), True)
  pupil = kind >= Kind.PRESCHOOL
  name = context.removeprefix("day_")
  found = {
    "household": (house, agent, everybody),
    "cluster": (cluster, house, everybody),
    "neighbourhood": (spot, agent, everybody),
    "community": (people.community[spot], spot, everybody),
    "work": (group, agent, kind == Kind.WORK),
    "class": (group, agent, pupil),
    "school": (people.school[group], group, pupil),
  }
  return Groups(*found[name])


def county(
  population: Population, agent: Int[np.ndarray, " n"], context: str
) -> Int[np.ndarray, " n"]:
  """County, as an index, in which agents' context takes place."""
  if context in HALVES[0]:
    spot = population.place[population.group[agent]]
  else:
    spot = population.neighbourhood[
      population.cluster[population.household[agent]]
    ]
  return population.county[population.community[spot]].astype(np.int64)


class Crowd:
  """Agents who may pass something on in one context.

  Example:
    >>> where = Groups(np.array([7, 7, 7]), np.array([1, 1, 2]), np.ones(3) > 0)
    >>> crowd = Crowd(np.array([10, 11, 12]), np.array([64, 0, 48]), where)
    >>> one = Groups(np.array([7]), np.array([2]), np.ones(1) > 0)
    >>> crowd.weight(one), crowd.pick(one, np.array([63]))
    (array([64]), array([10]))
  """

  def __init__(
    self,
    agent: Int[np.ndarray, " n"],
    weight: Int[np.ndarray, " n"],
    where: Groups,
  ):
    """Sorts them by group.

    Args:
      agent: identities.
      weight: of each, a whole number.
      where: their groups.
    """
    able = where.there & (weight > 0)
    agent, weight = agent[able], weight[able]
    outer, inner = where.outer[able], where.inner[able]
    order = np.lexsort((agent, inner, outer))
    self._agent, self._outer = agent[order], outer[order]
    self._code = _code(outer, inner)[order]
    self._before = np.append(0, np.cumsum(weight[order], dtype=np.int64))

  def weight(self, where: Groups) -> Int[np.ndarray, " events"]:
    """Weight of all whom some agents meet."""
    first, last, skip, on = self._ends(where)
    return np.where(where.there, last - first - (on - skip), 0)

  def pick(
    self, where: Groups, target: Int[np.ndarray, " events"]
  ) -> Int[np.ndarray, " events"]:
    """Whom a target from 0 to below `weight` falls upon."""
    first, _, skip, on = self._ends(where)
    target = first + target
    target = np.where(target >= skip, target + (on - skip), target)
    return self._agent[np.searchsorted(self._before, target, "right") - 1]

  def _ends(self, where: Groups) -> tuple[np.ndarray, ...]:
    """Sums of weights up to ends of outer groups, and of inner ones."""
    code = _code(where.outer, where.inner)
    ends = [
      self._before[np.searchsorted(found, wanted, side)]
      for found, wanted in ((self._outer, where.outer), (self._code, code))
      for side in ("left", "right")
    ]
    return tuple(ends)


def _code(outer: np.ndarray, inner: np.ndarray) -> np.ndarray:
  return outer.astype(np.int64) << 32 | inner.astype(np.int64)


class Route(NamedTuple):
  """A way in which something may have come.

  Attributes:
    context: where; none if nobody passed it on.
    source: its name.
    hazard: of each event per unit of weight, or in all if there is no crowd.
    crowd: who may have passed it on.
    where: groups of those to whom it came.
  """

  context: str | None
  source: str | None
  hazard: np.ndarray
  crowd: Crowd | None = None
  where: Groups | None = None


def choose(
  key: UInt32[np.ndarray, " 2"],
  agent: Int[np.ndarray, " events"],
  step: int,
  routes: list[Route],
) -> tuple[np.ndarray, np.ndarray]:
  """Draws a route for each event, and who passed it on.

  Args:
    key: of the draws.
    agent: to whom it came.
    step: half-days since day 0 began.
    routes: all there are.

  Returns:
    Indices into routes; identities, -1 where nobody passed it on.

  Raises:
    RuntimeError: something came to an agent to whom nothing could come.
  """
  weights = [
    np.ones(len(agent), np.int64)
    if route.crowd is None or route.where is None
    else route.crowd.weight(route.where)
    for route in routes
  ]
  hazard = np.stack(
    [
      route.hazard * weight
      for route, weight in zip(routes, weights, strict=True)
    ],
    1,
  )
  up_to = np.cumsum(hazard, 1)
  if (up_to[:, -1] <= 0).any():
    raise RuntimeError(f"agent {agent[up_to[:, -1] <= 0][0]} met nobody")
  bits = draws.words(
    key, agent.astype(np.uint32), np.full(len(agent), step, np.uint32)
  )
  limit = draws.uniform(bits[0]) * up_to[:, -1]
  limit = np.minimum(limit, np.nextafter(up_to[:, -1], 0))
  chosen = (up_to > limit[:, None]).argmax(1)
  by = np.full(len(agent), -1, np.int64)
  for index, route in enumerate(routes):
    if route.crowd is None or route.where is None:
      continue
    mine = chosen == index
    target = draws.below(bits[1][mine], weights[index][mine])
    where = Groups(*(part[mine] for part in route.where))
    by[mine] = route.crowd.pick(where, target)
  return chosen, by


def scaled(
  scale: Float[np.ndarray, "counties contexts"],
  population: Population,
  agent: Int[np.ndarray, " n"],
  context: str,
) -> Float[np.ndarray, " n"]:
  """What policies leave of a context where agents have it."""
  here = county(population, agent, context)
  return scale[here, CONTEXTS.index(context)].astype(np.float64)
