"""What people do otherwise, for each reason that they have.

Reasons are bits of one number: symptoms (bit 0), each behaviour of the fearful
that an agent complies with (bits 1 to K), an order to stay at home (bit K + 1).
The number follows from the agent's own state, so that a reason which ends takes
nothing away from the others.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from research.runs import errors
from research.systems.epicast import disease
from research.systems.epicast.disease import CONTEXTS, UNIT

Number = float | int
MOST = 4  # behaviours of the fearful; reasons double the tables
SYMPTOMS = 1
FEAR = 2  # the first behaviour of the fearful


@dataclasses.dataclass(frozen=True, kw_only=True)
class Behaviour:
  """Something that fearful people do who comply with it.

  Wherever contexts are named, `schools`, `social` and `all` stand for several;
  see `disease.GROUPS`. Effects multiply; the products are rounded to 1/64.

  Attributes:
    name: of the behaviour; it names the draws of who complies.
    compliance: chance that an agent does this whenever it is fearful.
    susceptibility: sigma_f, multiplies what one catches in every context.
    infectiousness: tau_f, multiplies what one passes on in every context.
    withdraw: contexts that one stays away from; never the household.
    mask: contexts in which one wears a mask.
    mask_in: what of others' infectiousness comes through it.
    mask_out: what of one's own comes through it.
    distance: context and what is left of contacts there, taken and given.

  Raises:
    UserError: a number is outside 0 to 1, a context is not known, or one stays
      away from the household.

  Example:
    >>> home = Behaviour(name="home", compliance=0.9, withdraw=("social",))
    >>> home.withdraw
    ('social',)
  """

  name: str
  compliance: Number = 1.0
  susceptibility: Number = 1.0
  infectiousness: Number = 1.0
  withdraw: Sequence[str] = ()
  mask: Sequence[str] = ()
  mask_in: Number = 1.0
  mask_out: Number = 1.0
  distance: Mapping[str, Number] = dataclasses.field(default_factory=dict)

  def __post_init__(self):
    for name in _CHANCES:
      disease.require_chance(f"{self.name}: {name}", getattr(self, name))
    for context, left in self.distance.items():
      disease.require_chance(f"{self.name}: distance in {context}", left)
    for context in (*self.withdraw, *self.mask, *self.distance):
      disease.contexts(context)
    if "household" in self.withdraw:
      raise errors.UserError(
        f"{self.name}: got withdrawal from the household; expected other "
        "contexts: nobody leaves home for fear"
      )


_CHANCES = (
  "compliance",
  "susceptibility",
  "infectiousness",
  "mask_in",
  "mask_out",
)


class Table(NamedTuple):
  """What agents do for all sets of reasons; a row is a number of reasons.

  Attributes:
    emits: multiplies what one passes on, in 1/64, `[rows, contexts]`.
    receives: multiplies what one catches, in 1/64, `[rows, contexts]`.
    there: who has not withdrawn, `[rows, contexts]`.
  """

  emits: np.ndarray
  receives: np.ndarray
  there: np.ndarray


def tabulate(behaviours: Sequence[Behaviour], *, orders: bool) -> Table:
  """Compiles what people do for every set of reasons.

  Symptoms and orders leave nobody but the own household.

  Args:
    behaviours: of the fearful.
    orders: whether there are orders to stay at home.

  Example:
    >>> tabulate((), orders=False).emits[:, :3].tolist()
    [[64, 64, 64], [64, 0, 0]]
  """
  home = Behaviour(name="at home", withdraw=("all",))
  reasons = [home, *behaviours] + [home] * orders
  effects = [_effects(reason) for reason in reasons]
  emits, receives = np.ones((2, 2 ** len(reasons), len(CONTEXTS)))
  there = np.ones(emits.shape, bool)
  for row in range(len(emits)):
    for bit, (gives, takes, stays) in enumerate(effects):
      if row >> bit & 1:
        emits[row] *= gives
        receives[row] *= takes
        there[row] &= stays
  whole = lambda part: np.rint(UNIT * part * there).astype(np.int64)
  return Table(whole(emits), whole(receives), there)


def _effects(
  behaviour: Behaviour,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
  """What one behaviour does to giving, taking and being there."""
  emits, receives = np.ones((2, len(CONTEXTS)))
  emits *= behaviour.infectiousness
  receives *= behaviour.susceptibility
  there = np.ones(len(CONTEXTS), bool)
  for name in behaviour.withdraw:
    there[disease.contexts(name)] = False
  masked = {
    place for name in behaviour.mask for place in disease.contexts(name)
  }
  emits[sorted(masked)] *= behaviour.mask_out
  receives[sorted(masked)] *= behaviour.mask_in
  for name, left in behaviour.distance.items():
    emits[disease.contexts(name)] *= left
    receives[disease.contexts(name)] *= left
  return emits, receives, there
