"""The event log: every transition of every agent, and where it came from."""

import numpy as np
from jax.sharding import Mesh

from research.systems.epicast import (
  behaviours,
  disease,
  draws,
  engine,
  noon,
  transmission,
  watch,
)
from research.systems.epicast.disease import CONTEXTS, HAZARD_BITS, UNIT, Stage
from research.systems.epicast.fear import Fear
from research.systems.epicast.population.people import Population

COLUMNS = {
  "replicate": "which run of the scenario",
  "step": "half-days since day 0 began; -1 is the state before it",
  "day": "of the run, from 0",
  "half": "0 by day, 1 by night",
  "agent": "to whom it came",
  "fips": "code of the county where the agent lives",
  "tract": "identifier of the tract where the agent lives",
  "community": "where the agent lives",
  "event": "what happened: infected, presymptomatic, symptomatic, "
  "asymptomatic, recovered, fearful, calm",
  "context": "where it was passed on; none if nobody did",
  "by": "agent who passed it on: infector, or who frightened",
  "source": "of an infection: contact or index case; of fear: fearful or sick "
  "contact, own symptoms or recovery, broadcaster, initial",
}
_EVENTS = {
  Stage.E: "infected",
  Stage.P: "presymptomatic",
  Stage.IS: "symptomatic",
  Stage.IA: "asymptomatic",
  Stage.RS: "recovered",
  Stage.RA: "recovered",
}
_CERTAIN = 32.0  # nats: as certain as it gets
Table = dict[str, np.ndarray]


class Recorder:
  """Makes the log of a run, day by day, and changes nothing of the run.

  Attributes:
    spilled: rows so far, or since it was set to 0, that did not fit a device's
      buffer at first; they are in the log like all others.
  """

  def __init__(
    self,
    population: Population,
    history: disease.Disease,
    contact: disease.Contacts,
    fear: Fear | None = None,
    *,
    seed: int,
    replicate: int = 0,
    capacity: int | None = None,
  ):
    """Prepares a log.

    Args:
      population: who there is.
      history: as given to `engine.load`.
      contact: likewise.
      fear: likewise.
      seed: of the run.
      replicate: which run.
      capacity: rows of a device's buffer of half a day; at least 4,096 and a
        sixteenth of its agents if left out.
    """
    self._people, self._history = population, history
    self._fear = fear or Fear()  # without any, nobody becomes fearful
    self._hazards = contact.hazards()
    self._replicate, self._capacity = replicate, capacity
    self._keys = {
      name: draws.key(seed, name, replicate)
      for name in ("infector", "frightener")
    }
    self.spilled = 0

  def begin(self, world: engine.World, state: engine.State) -> Table:
    """Index cases, and who is fearful at the start.

    Args:
      world: that runs.
      state: before day 0.
    """
    agent = np.asarray(world.agents.identity)
    order = np.argsort(agent, kind="stable")[: len(self._people)]
    cases = agent[order[np.asarray(state.stage)[order] == Stage.E]]
    parts = [self._rows(-1, cases, "infected", source="index case")]
    if state.minds is not None:
      mind = np.asarray(state.minds.mind)[order]
      afraid = agent[order[mind & 1 == 1]]
      parts.append(self._rows(-1, afraid, "fearful", source="initial"))
    return _join(parts)

  def day(
    self,
    world: engine.World,
    before: engine.State,
    after: engine.State,
    mesh: Mesh | None = None,
  ) -> Table:
    """What happened in a day, by half-day, event and agent.

    Args:
      world: that ran.
      before: state before the day.
      after: state after it.
      mesh: over which they are spread, if they are.

    Returns:
      Columns of `COLUMNS`.
    """
    middle = noon.after_day(world, before, mesh=mesh)
    said = noon.said(world, before)
    step = 2 * int(before.day)
    rules = world.policies
    row = np.searchsorted(np.asarray(rules.since), int(before.day), "right") - 1
    scale = np.asarray(rules.scale[row])
    table = behaviours.tabulate(
      self._fear.behaviours,
      orders=rules.orders is not None,
    )
    parts = []
    for half, states in enumerate(((before, middle), (middle, after))):
      looked = _Half(self._people, step + half, scale, table)
      parts += self._half(world, *states, looked, said)
    return _join(parts)

  def _half(self, world, before, after, half, said) -> list[Table]:
    changed, spilled = watch.changes(world, before, after, self._capacity)
    self.spilled += spilled
    turned = changed.before != changed.stage
    new = changed.take(turned & (changed.stage == Stage.E))
    afraid = changed.take(changed.afraid & ~changed.fearful)
    calm = changed.take(changed.fearful & ~changed.afraid)
    meets = self._fear.phi_ff + self._fear.phi_sf > 0
    parts, met = [], None
    if len(new.agent) or (meets and len(afraid.agent)):
      met = watch.carriers(
        world, before, after, frighten=meets, capacity=self._capacity
      )
    if met is not None and len(new.agent):
      routes = self._infections(half, new, met)
      parts.append(self._chosen("infector", "infected", half, new, routes))
    for stage, event in _EVENTS.items():
      if stage != Stage.E:
        who = changed.agent[turned & (changed.stage == stage)]
        parts.append(self._rows(half.step, who, event))
    if len(afraid.agent):
      routes = self._frights(half, afraid, met if meets else None, said)
      parts.append(self._chosen("frightener", "fearful", half, afraid, routes))
    parts.append(self._rows(half.step, calm.agent, "calm"))
    return parts

  def _chosen(self, key, event, half, rows, routes) -> Table:
    chosen, by = transmission.choose(
      self._keys[key], rows.agent, half.step, routes
    )
    name = lambda field: np.array(
      [getattr(route, field) for route in routes], object
    )[chosen]
    return self._rows(
      half.step, rows.agent, event, name("context"), by, name("source")
    )

  def _infections(self, half, new, met) -> list[transmission.Route]:
    """Ways to be infected, by context, from children and from adults."""
    people, routes = self._people, []
    infectious = disease.infectiousness(self._history)[met.stage]
    age, kind = people.age[new.agent], people.kind[people.group[new.agent]]
    child = people.age[met.agent] < 2
    for context in half.contexts:
      column = CONTEXTS.index(context)
      weight = infectious * half.table.emits[met.why, column]
      weight = np.rint(weight / UNIT).astype(np.int64)
      takes = half.table.receives[new.why, column] * half.scale(new, context)
      for who, hazard in self._contact(context, age, kind, child):
        crowd = half.crowd(met, weight * who, context)
        rate = hazard * takes / UNIT**2
        routes.append(
          transmission.Route(
            context, "contact", rate, crowd, half.groups(new, context)
          )
        )
    return routes

  def _contact(self, context, age, kind, child):
    """Who gives, and the hazard of one full contact with them, in nats."""
    every, of = np.ones(len(child), np.int64), self._hazards
    name = context.removeprefix("day_")
    if name in ("household", "cluster"):
      return (
        (child * every, of[f"{name}_child"][age]),
        (~child * every, of[f"{name}_adult"][age]),
      )
    if name == "class":
      return ((every, np.append([0, 0], of["classes"])[kind]),)
    return ((every, np.broadcast_to(of[name], 5)[age]),)

  def _frights(self, half, afraid, met, said) -> list[transmission.Route]:
    """Ways to become fearful."""
    fear, routes = self._fear, []
    fell_ill = (afraid.stage == Stage.IS) & (afraid.before == Stage.P)
    recovered = (afraid.stage == Stage.RS) & (afraid.before == Stage.IS)
    sure = min(-np.log1p(-min(fear.rho_f, 1 - 1e-16)), _CERTAIN)
    home = transmission.county(self._people, afraid.agent, "household")
    heard = said[home] * (afraid.media / UNIT) * 2.0**-HAZARD_BITS
    for source, hazard in (
      ("own symptoms", fell_ill * fear.phi_self),
      ("own recovery", recovered * sure),
      ("broadcaster", heard),
    ):
      routes.append(transmission.Route(None, source, hazard))
    if met is None:
      return routes
    for context in half.contexts:
      column = CONTEXTS.index(context)
      there = half.table.there[:, column].astype(np.int64)
      rate = fear.weights.get(context, 0.0) * half.scale(afraid, context)
      rate = rate * there[afraid.why]
      where = half.groups(afraid, context)
      for source, who, phi in (
        ("fearful contact", met.fearful, fear.phi_ff),
        ("sick contact", met.stage == Stage.IS, fear.phi_sf),
      ):
        crowd = half.crowd(met, there[met.why] * who, context)
        routes.append(
          transmission.Route(context, source, phi * rate, crowd, where)
        )
    return routes

  def _rows(
    self, step, agent, event, context=None, by=None, source=None
  ) -> Table:
    people, number = self._people, len(agent)
    spot = people.neighbourhood[people.cluster[people.household[agent]]]
    home = people.community[spot]
    text = lambda value: (
      np.full(number, value, object) if np.ndim(value) == 0 else value
    )
    fill = lambda value: np.full(number, value, np.int32)
    return {
      "replicate": fill(self._replicate),
      "step": fill(step),
      "day": fill(step // 2),
      "half": fill(step % 2),
      "agent": agent.astype(np.int64),
      "fips": people.fips[people.county[home]].astype(np.int64),
      "tract": people.tract[home].astype(np.int64),
      "community": home.astype(np.int64),
      "event": text(event),
      "context": text(context),
      "by": np.full(number, -1, np.int64) if by is None else by,
      "source": text(source),
    }


class _Half:
  """What half a day is for all events in it."""

  def __init__(self, people, step, scale, table):
    self.step, self.table = step, table
    self.contexts = transmission.HALVES[step % 2]
    self._people, self._scale = people, scale

  def scale(self, rows, context):
    """What policies leave of contacts."""
    return transmission.scaled(self._scale, self._people, rows.agent, context)

  def groups(self, rows, context):
    """Where agents are."""
    return transmission.groups(self._people, rows.agent, context)

  def crowd(self, rows, weight, context):
    """Who gives something there."""
    where = self.groups(rows, context)
    return transmission.Crowd(rows.agent, weight, where)


def _join(parts: list[Table]) -> Table:
  return {
    name: np.concatenate([part[name] for part in parts]) for name in COLUMNS
  }
