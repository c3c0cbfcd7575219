"""The course of an infection, and how likely contacts pass it on.

Exposed (E), presymptomatic (P), then infectious with or without symptoms (Is,
Ia), then recovered (Rs, Ra). Time runs in half-days; a stage of `d` days takes
exactly `2 d` of them.
"""

import dataclasses
import difflib
import enum
from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, UInt8, UInt16, UInt32

from research.runs import errors
from research.systems.epicast import draws

Number = float | int
Ages = tuple[Number, Number, Number, Number, Number]


class Stage(enum.IntEnum):
  """Where an agent stands; `ABSENT` fills arrays up and never does anything."""

  S = 0
  E = 1
  P = 2
  IS = 3
  IA = 4
  RS = 5
  RA = 6
  ABSENT = 7


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
_SOCIAL = (
  "cluster",
  "neighbourhood",
  "community",
  "day_neighbourhood",
  "day_community",
)
GROUPS = {
  "schools": ("class", "school"),
  "social": _SOCIAL,
  "all": CONTEXTS[1:],  # but the household
}
UNIT = 64  # weights of contacts are whole multiples of 1 / UNIT
HAZARD_BITS = 26  # hazards are whole multiples of 2^-26


@dataclasses.dataclass(frozen=True, kw_only=True)
class Disease:
  """Natural history of a pathogen.

  Attributes:
    latent_cdf: chance that E lasts at most `latent_first`, +1, ... days.
    latent_first: shortest E, in days.
    presymptomatic_days: length of P.
    infectious_cdf: as `latent_cdf`, of Is and Ia.
    infectious_first: shortest Is and Ia, in days.
    p_asymptomatic: chance of Ia.
    rel_trans_asymptomatic: what P and Ia pass on relative to Is, in 1/64.
    withdrawal: chance that one stays at home by day 0, 1, 2 of symptoms, by
      age.
    withdrawal_scalar: multiplies these chances.

  References:
    Alexander et al., Epicast 2.0, arXiv 2504.03604.
  """

  latent_cdf: Sequence[Number] = (0.10, 0.25, 0.55, 0.66, 0.78, 0.85, 1.0)
  latent_first: int = 1
  presymptomatic_days: int = 1
  infectious_cdf: Sequence[Number] = (0.10, 0.30, 0.50, 0.70, 0.85, 0.95, 1.0)
  infectious_first: int = 3
  p_asymptomatic: Number = 0.40
  rel_trans_asymptomatic: Number = 0.75
  withdrawal: Sequence[tuple[Number, Number, Number]] = (
    (0.3, 0.8, 0.9),
    (0.3, 0.7, 0.8),
    (0.3, 0.5, 0.7),
    (0.3, 0.5, 0.7),
    (0.3, 0.5, 0.7),
  )
  withdrawal_scalar: Number = 1.0

  def __post_init__(self):
    require_chance("p_asymptomatic", self.p_asymptomatic)
    require_chance("rel_trans_asymptomatic", self.rel_trans_asymptomatic)
    for name in ("latent_cdf", "infectious_cdf"):
      cdf = np.array(getattr(self, name))
      if (
        cdf.size == 0 or (np.diff(cdf) < 0).any() or cdf[0] < 0 or cdf[-1] != 1
      ):
        raise errors.UserError(
          f"{name}: got {tuple(cdf.tolist())}; expected chances that rise to 1"
        )
    shortest = (self.latent_first, self.presymptomatic_days)
    if min(*shortest, self.infectious_first) < 1:
      raise errors.UserError(
        "got a stage shorter than a day; expected whole days from 1"
      )


@dataclasses.dataclass(frozen=True, kw_only=True)
class Contacts:
  """How strong contacts are, and of them how many pass the infection on.

  The chance that an infectious agent infects a susceptible one in a half-day
  and a context is `p_trans` times the context's factor times its entry here.

  Attributes:
    p_trans: chance that a contact passes the infection on.
    household_factor: multiplies both household rows; so do the other factors.
    household_child: from a child to each age.
    household_adult: from an adult to each age.
    cluster_child: of the 4 households of a cluster, without the own one.
    cluster_adult: the same, from adults.
    neighbourhood: to each age, day and night.
    community: to each age, day and night, without the own neighbourhood.
    work: within a work group.
    classes: within a class: preschool, elementary, middle, high school.
    school: within a school, without the own class. EpiCast has such a channel;
      its value is not published.

  References:
    LANL's New Mexico configuration of EpiCast; ExaEpi, `DiseaseParm.H`.
  """

  p_trans: Number = 0.078
  household_factor: Number = 1.8
  cluster_factor: Number = 1.25
  neighbourhood_factor: Number = 1.25
  community_factor: Number = 1.25
  work_factor: Number = 1.4
  class_factor: Number = 4.2
  household_child: Ages = (0.6, 0.6, 0.3, 0.3, 0.3)
  household_adult: Ages = (0.3, 0.3, 0.4, 0.4, 0.4)
  cluster_child: Ages = (0.15, 0.15, 0.08, 0.08, 0.08)
  cluster_adult: Ages = (0.08, 0.08, 0.1, 0.1, 0.1)
  neighbourhood: Ages = (5e-5, 1.5e-4, 4e-4, 4e-4, 6e-4)
  community: Ages = (1.25e-5, 3.75e-5, 1e-4, 1e-4, 1.5e-4)
  work: Number = 0.115
  classes: tuple[Number, Number, Number, Number] = (0.036, 0.145, 0.125, 0.105)
  school: Number = 0.0

  def hazards(self) -> dict[str, np.ndarray]:
    """Hazards of one full contact, `-log(1 - p)`, by the name of the entry.

    Raises:
      UserError: a chance is negative, or 1 and more.
    """
    names = (*_FACTORS, "school")
    return {name: self._hazard(name) for name in names}

  def _hazard(self, name: str) -> np.ndarray:
    factor = getattr(self, _FACTORS[name]) if name in _FACTORS else 1.0
    chance = self.p_trans * factor * np.asarray(getattr(self, name), float)
    if not ((chance >= 0) & (chance < 1)).all():
      raise errors.UserError(
        f"{name}: p_trans times its factor gives {chance.tolist()}; expected "
        "chances from 0 to below 1: lower p_trans or the factor"
      )
    return np.asarray(-np.log1p(-chance))


_FACTORS = {
  "household_child": "household_factor",
  "household_adult": "household_factor",
  "cluster_child": "cluster_factor",
  "cluster_adult": "cluster_factor",
  "neighbourhood": "neighbourhood_factor",
  "community": "community_factor",
  "work": "work_factor",
  "classes": "class_factor",
}


class Course(NamedTuple):
  """How an infection would go, drawn once for each agent; packed in 16 bits."""

  latent: jax.Array
  infectious: jax.Array
  asymptomatic: jax.Array
  withdraws: jax.Array


def draw_courses(
  disease: Disease,
  key: UInt32[np.ndarray, " 2"],
  agent: UInt32[Array, " n"],
  age: UInt8[Array, " n"],
) -> UInt16[Array, " n"]:
  """Draws every agent's course, the same in all scenarios of a replicate.

  Args:
    disease: natural history.
    key: of the decision `"course"`.
    agent: identities.
    age: groups.

  Returns:
    Packed courses; see `unpack`.
  """
  zero = jnp.zeros_like(agent)
  first, second = draws.words(jnp.asarray(key), agent, zero)
  third, fourth = draws.words(jnp.asarray(key), agent, zero + 1)
  latent = _days(first, disease.latent_cdf, disease.latent_first)
  infectious = _days(second, disease.infectious_cdf, disease.infectious_first)
  asymptomatic = third < draws.threshold(disease.p_asymptomatic)
  chances = np.array(disease.withdrawal) * disease.withdrawal_scalar
  limits = jnp.asarray(draws.threshold(np.clip(chances, 0, 1)))[age]
  withdraws = (fourth[:, None] >= limits).sum(1)
  packed = latent | infectious << 5 | asymptomatic << 10 | withdraws << 11
  return packed.astype(jnp.uint16)


def unpack(course: UInt16[Array, " n"]) -> Course:
  """Latent and infectious days, Ia or not, day of withdrawal (3 is never)."""
  wide = course.astype(jnp.int32)
  return Course(wide & 31, wide >> 5 & 31, wide >> 10 & 1 == 1, wide >> 11)


def _days(
  bits: UInt32[Array, " n"], cdf: Sequence[Number], first: int
) -> jax.Array:
  days = jnp.full(bits.shape, first, jnp.int32)
  for limit in draws.threshold(np.array(cdf))[:-1]:
    days += bits >= limit
  return days


def progress(
  stage: UInt8[Array, " n"],
  timer: UInt8[Array, " n"],
  course: UInt16[Array, " n"],
  presymptomatic_days: UInt8[Array, ""],
) -> tuple[UInt8[Array, " n"], UInt8[Array, " n"]]:
  """Lets half a day pass.

  Args:
    stage: of each agent.
    timer: half-days left in the stage.
    course: of each agent.
    presymptomatic_days: length of P.

  Returns:
    Stages and timers.
  """
  drawn = unpack(course)
  running = (stage >= Stage.E) & (stage <= Stage.IA)
  timer = timer - running.astype(jnp.uint8)
  ends = running & (timer == 0)
  exposed, before = stage == Stage.E, stage == Stage.P
  ill = jnp.where(drawn.asymptomatic, Stage.IA, Stage.IS).astype(jnp.uint8)
  # Is and Ia go on to Rs and Ra, two further.
  after = jnp.where(exposed, Stage.P, jnp.where(before, ill, stage + 2))
  length = jnp.where(before, 2 * drawn.infectious, 0).astype(jnp.uint8)
  length = jnp.where(exposed, 2 * presymptomatic_days, length)
  after = after.astype(jnp.uint8)
  return jnp.where(ends, after, stage), jnp.where(ends, length, timer)


def infect(
  stage: UInt8[Array, " n"],
  timer: UInt8[Array, " n"],
  course: UInt16[Array, " n"],
  caught: Bool[Array, " n"],
) -> tuple[UInt8[Array, " n"], UInt8[Array, " n"]]:
  """Moves who caught the infection to E; others of `caught` stay."""
  new = caught & (stage == Stage.S)
  length = (2 * unpack(course).latent).astype(jnp.uint8)
  stage = jnp.where(new, jnp.uint8(Stage.E), stage)
  return stage, jnp.where(new, length, timer)


def withdrawn(
  stage: UInt8[Array, " n"],
  timer: UInt8[Array, " n"],
  course: UInt16[Array, " n"],
) -> Bool[Array, " n"]:
  """Who stays at home for symptoms.

  It follows from stage, timer and course, so nothing else can set or lift it.
  """
  drawn = unpack(course)
  since = 2 * drawn.infectious - timer
  late = since >= 2 * drawn.withdraws
  return (stage == Stage.IS) & late & (drawn.withdraws < 3)


def infectiousness(disease: Disease) -> np.ndarray:
  """Weight of each stage, in 1/64."""
  weights = np.zeros(len(Stage))
  weights[Stage.IS] = UNIT
  weights[[Stage.P, Stage.IA]] = UNIT * disease.rel_trans_asymptomatic
  return np.rint(weights).astype(np.int64)


def require_chance(name: str, value: Number) -> None:
  """Raises an error that names a value which is no chance."""
  if not 0 <= value <= 1:
    raise errors.UserError(f"{name}: got {value}; expected from 0 to 1")


def contexts(name: str) -> list[int]:
  """Places in `CONTEXTS` of a context, or of one of `GROUPS`.

  Raises:
    UserError: there is no such name.

  Example:
    >>> contexts("schools")
    [5, 6]
  """
  known = (*CONTEXTS, *GROUPS)
  if name not in known:
    near = difflib.get_close_matches(name, known, 1, 0)[0]
    raise errors.UserError(
      f"got context {name!r}; expected one of {', '.join(known)}: did you mean "
      f"{near!r}?"
    )
  return [CONTEXTS.index(part) for part in GROUPS.get(name, (name,))]
