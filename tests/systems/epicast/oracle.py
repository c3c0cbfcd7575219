"""EpiCast pair by pair in plain numpy: every agent with every other one.

It shares no code with the simulator but its parameters: random words are JAX's
own, and contexts are pairs of agents who meet there.
"""

import zlib

import jax
import numpy as np
from jax.extend.random import threefry2x32_p

S, E, P, IS, IA, RS, RA = range(7)
CONTEXTS = (
  "household",
  "cluster",
  "neighbourhood",
  "community",
  "work",
  "class",
  "school",
  "day_neighbourhood",
  "day_community",
)


def words(seed, decision, agents, step):
  """Two words of random bits for each agent."""
  stream = jax.random.fold_in(
    jax.random.key(seed), zlib.crc32(decision.encode())
  )
  key = jax.random.key_data(jax.random.fold_in(stream, 0))
  counter = np.full(agents, step, np.uint32)
  return [
    np.asarray(word)
    for word in threefry2x32_p.bind(
      key[0], key[1], np.arange(agents, dtype=np.uint32), counter
    )
  ]


def meetings(people):
  """Who meets whom, by context, `[contexts, n, n]`."""
  cluster = people.cluster[people.household]
  hood = people.neighbourhood[cluster]
  town = people.community[hood]
  kind, school = people.kind[people.group], people.school[people.group]
  day_hood = people.place[people.group]
  day_town = people.community[day_hood]
  same = lambda ids: ids[:, None] == ids[None]
  grouped = same(people.group)
  return {
    "household": same(people.household),
    "cluster": same(cluster) & ~same(people.household),
    "neighbourhood": same(hood),
    "community": same(town) & ~same(hood),
    "work": grouped & (kind == 1)[:, None],
    "class": grouped & (kind >= 2)[:, None],
    "school": same(school) & (kind >= 2)[:, None] & ~grouped,
    "day_neighbourhood": same(day_hood),
    "day_community": same(day_town) & ~same(day_hood),
  }


def chances(people, contact):
  """Chance that `j` infects `i` in a context at full weight, `[n, n]`."""
  to, child = people.age, people.age < 2
  kind = people.kind[people.group]

  def by_giver(name):
    both = [getattr(contact, f"{name}_{age}") for age in ("child", "adult")]
    from_child, from_adult = (np.array(row)[to][:, None] for row in both)
    factor = getattr(contact, f"{name}_factor")
    return factor * np.where(child[None], from_child, from_adult)

  near = contact.neighbourhood_factor * np.array(contact.neighbourhood)[to]
  far = contact.community_factor * np.array(contact.community)[to]
  level = np.array([0, 0, *contact.classes])[kind]
  found = {
    "household": by_giver("household"),
    "cluster": by_giver("cluster"),
    "neighbourhood": near[:, None],
    "community": far[:, None],
    "work": np.full((len(to), 1), contact.work_factor * contact.work),
    "class": contact.class_factor * level[:, None],
    "school": np.full((len(to), 1), contact.school),
    "day_neighbourhood": near[:, None],
    "day_community": far[:, None],
  }
  return {name: contact.p_trans * chance for name, chance in found.items()}


def places(people):
  """County index in which each agent's contexts take place."""
  home = people.county[people.home_community]
  away = people.county[people.community[people.place[people.group]]]
  return {
    name: home if index < 4 else away for index, name in enumerate(CONTEXTS)
  }


class Oracle:
  """An epidemic, pair by pair.

  Attributes:
    stage: of each agent.
    hazard: of each agent in the last half-step, in nats.
  """

  def __init__(self, people, history, contact, behaviours, scale, cases, seed):
    n = len(people)
    self.behaviours, self.scale, self.seed = behaviours, scale, seed
    self.kappa = np.zeros(7)
    self.kappa[IS] = 1
    self.kappa[[P, IA]] = history.rel_trans_asymptomatic
    self.meet, self.where = meetings(people), places(people)
    self.chance = chances(people, contact)
    bits = [*words(seed, "course", n, 0), *words(seed, "course", n, 1)]
    u = [word / 2.0**32 for word in bits]
    days = lambda u, cdf, first: first + (u[:, None] >= cdf).sum(1)
    latent = days(u[0], np.array(history.latent_cdf), history.latent_first)
    ill = days(u[1], np.array(history.infectious_cdf), history.infectious_first)
    self.silent = u[2] < history.p_asymptomatic
    limits = np.array(history.withdrawal)[people.age]
    self.stays = (u[3][:, None] >= limits).sum(1)
    self.length = np.stack(
      (latent, np.full(n, history.presymptomatic_days), ill)
    )
    self.stage, self.since = np.zeros(n, int), np.full(n, 10**6)
    self.stage[cases] = E
    self.since[cases] = 0

  def day(self, day):
    """Both half-steps of a day."""
    bits = words(self.seed, "infection", len(self.stage), day)
    for word, names in zip(bits, (CONTEXTS[4:], CONTEXTS[:4]), strict=True):
      self._half(word, names, self.scale(day))

  def _half(self, word, names, scale):
    self.since += 1
    for old, length in ((E, 0), (P, 1), (IS, 2), (IA, 2)):
      ends = (self.stage == old) & (self.since == 2 * self.length[length])
      new = {E: P, P: np.where(self.silent, IA, IS), IS: RS, IA: RA}[old]
      self.stage = np.where(ends, new, self.stage)
      self.since[ends] = 0
    home = (self.stage == IS) & (self.since >= 2 * self.stays)
    behaviour = (home & (self.stays < 3)).astype(int)
    self.hazard = np.zeros(len(self.stage))
    for name in names:
      context = CONTEXTS.index(name)
      gives = self.behaviours.emits[behaviour, context] / 64
      takes = self.behaviours.receives[behaviour, context] / 64
      weight = np.rint(64 * self.kappa[self.stage] * gives) / 64
      pairs = -np.log1p(-self.chance[name]) * weight[None]
      pairs = np.where(self.meet[name], pairs, 0).sum(1)
      self.hazard += pairs * takes * scale[self.where[name], context]
    caught = word / 2.0**32 < -np.expm1(-self.hazard)
    new = caught & (self.stage == S)
    self.stage[new], self.since[new] = E, 0
