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
  """An epidemic with fear, pair by pair.

  Attributes:
    stage: of each agent.
    fearful: of each agent.
    hazard: of each agent in the last half-step, in nats.
    infections: of the last day, by county.
    symptomatic: who got symptoms that day, by county.
  """

  def __init__(
    self, people, history, contact, cases, *, scale, orders, fear, seed=0
  ):
    n = len(people)
    self.scale, self.orders, self.fear, self.seed = scale, orders, fear, seed
    self.kappa = np.zeros(7)
    self.kappa[IS] = 1
    self.kappa[[P, IA]] = history.rel_trans_asymptomatic
    self.meet, self.where = meetings(people), places(people)
    self.chance = chances(people, contact)
    self.fips, self.home = people.fips, self.where["household"]
    self._draw_courses(people, history)
    self.stage, self.since = np.zeros(n, int), np.full(n, 10**6)
    self.stage[cases] = E
    self.since[cases] = 0
    self.obeys = self._uniform("orders")
    self.fearful = self._uniform("initial fear") < fear.initial
    self.complies = [
      self._uniform(f"compliance with {item.name}") < item.compliance
      for item in fear.behaviours
    ]
    spread = fear.media_spread * (2 * self._uniform("media") - 1)
    self.media = np.rint(64 * (1 + spread)) / 64
    self.reports = {"prevalence": [], "incidence": []}
    self.on_air = [np.zeros(len(self.fips), bool) for _ in fear.broadcasters]

  def _uniform(self, decision):
    return words(self.seed, decision, len(self.home), 0)[0] / 2.0**32

  def _draw_courses(self, people, history):
    n, seed = len(people), self.seed
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

  def day(self, day):
    """Both half-steps of a day."""
    n, counties = len(self.stage), len(self.fips)
    media = self._heard(day)
    infection = words(self.seed, "infection", n, day)
    fear = words(self.seed, "fear", n, day)
    self.infections = np.zeros(counties, int)
    self.symptomatic = np.zeros(counties, int)
    for half, names in enumerate((CONTEXTS[4:], CONTEXTS[:4])):
      u = infection[half] / 2.0**32, fear[half] / 2.0**32
      self._half(u, names, day, media)
    ill = np.bincount(self.home, self.stage == IS, counties)
    self.reports["prevalence"].append(ill)
    self.reports["incidence"].append(self.symptomatic)

  def _heard(self, day):
    """Hazard per half-day of a mean listener, by agent."""
    residents = np.bincount(self.home, minlength=len(self.fips))
    total = np.zeros(len(self.fips))
    for index, source in enumerate(self.fear.broadcasters):
      region = {
        "nation": np.zeros(len(self.fips)),
        "state": self.fips // 1000,
        "county": self.fips,
      }[source.level]
      share = np.zeros(len(self.fips))
      first = day - source.lag - source.average + 1
      for past in range(max(first, 0), day - source.lag + 1):
        for county, code in enumerate(region):
          same = region == code
          count = self.reports[source.signal][past][same].sum()
          share[county] += count / residents[same].sum() / source.average
      on_air = self.on_air[index]
      limit = np.where(on_air, source.until, source.threshold)
      self.on_air[index] = share >= limit
      total += np.where(self.on_air[index], source.strength * share / 2, 0)
    return total[self.home]

  def _half(self, u, names, day, media):
    before = self.stage
    self._progress()
    self.symptomatic += np.bincount(
      self.home, (before == P) & (self.stage == IS), len(self.fips)
    ).astype(int)
    emits, takes, there = self._behaviour(day)
    scale = self.scale(day)
    self.hazard = np.zeros(len(self.stage))
    self.gain, self.loss = np.zeros((2, len(self.stage)))
    for name in names:
      context = CONTEXTS.index(name)
      scales = scale[self.where[name], context]
      weight = np.rint(64 * self.kappa[self.stage] * emits[:, context]) / 64
      pairs = -np.log1p(-self.chance[name]) * weight[None]
      pairs = np.where(self.meet[name], pairs, 0).sum(1)
      self.hazard += pairs * takes[:, context] * scales
      self._contagion(name, there[:, context], scales)
    fear = self.fear
    self.gain += media * self.media
    self.gain += fear.phi_self * ((before == P) & (self.stage == IS))
    recovered = (before == IS) & (self.stage == RS)
    self.gain += np.where(recovered, -np.log1p(-fear.rho_f), 0)
    self.loss += fear.gamma_f / 2
    felt = np.where(self.fearful, self.loss, self.gain)
    self.fearful = self.fearful ^ (u[1] < -np.expm1(-felt))
    new = (u[0] < -np.expm1(-self.hazard)) & (self.stage == S)
    self.infections += np.bincount(self.home, new, len(self.fips)).astype(int)
    self.stage = np.where(new, E, self.stage)
    self.since[new] = 0

  def _progress(self):
    self.since += 1
    for old, length in ((E, 0), (P, 1), (IS, 2), (IA, 2)):
      ends = (self.stage == old) & (self.since == 2 * self.length[length])
      new = {E: P, P: np.where(self.silent, IA, IS), IS: RS, IA: RA}[old]
      self.stage = np.where(ends, new, self.stage)
      self.since[ends] = 0

  def _contagion(self, name, there, scale):
    """What fearful, sick and recovered others do, met in person."""
    met = self.meet[name] & there[:, None] & there[None]
    met &= ~np.eye(len(there), dtype=bool)
    fear, weight = self.fear, self.fear.weights.get(name, 0) * scale
    sick, well = self.stage == IS, np.isin(self.stage, (RS, RA))
    frightening = fear.phi_ff * self.fearful + fear.phi_sf * sick
    self.gain += weight * np.where(met, frightening[None], 0).sum(1)
    self.loss += weight * fear.gamma_r * (met & well[None]).sum(1)

  def _behaviour(self, day):
    """What each agent gives, takes, and where it is, `[n, contexts]`."""
    shape = len(self.stage), len(CONTEXTS)
    emits, takes, there = np.ones(shape), np.ones(shape), np.ones(shape, bool)
    ill = (self.stage == IS) & (self.since >= 2 * self.stays)
    ordered = self.obeys < np.round(256 * self.orders(day))[self.home] / 256
    there[(ill & (self.stays < 3)) | ordered, 1:] = False
    for item, complies in zip(self.fear.behaviours, self.complies, strict=True):
      who = complies & self.fearful
      for context, name in enumerate(CONTEXTS):
        gives = item.infectiousness * item.distance.get(name, 1)
        gets = item.susceptibility * item.distance.get(name, 1)
        if name in item.mask:
          gives, gets = gives * item.mask_out, gets * item.mask_in
        emits[who, context] *= gives
        takes[who, context] *= gets
        there[who, context] &= name not in item.withdraw
    rounded = [np.rint(64 * part * there) / 64 for part in (emits, takes)]
    return *rounded, there
