"""A population: agents, and the groups that hold them."""

import dataclasses
import enum
import hashlib
import json
from collections.abc import Mapping

import numpy as np

from research.runs import errors

LARGEST_HOUSEHOLD = 15  # what 10 bits of weights of 1/64 hold
LARGEST_GROUP = 1023  # what 16 bits of them hold


class Kind(enum.IntEnum):
  """What a day group is: nothing (at home), a class of a level, or work."""

  HOME = 0
  WORK = 1
  PRESCHOOL = 2
  ELEMENTARY = 3
  MIDDLE = 4
  HIGH = 5


@dataclasses.dataclass(frozen=True)
class Population:
  """People sorted by household, cluster, neighbourhood, community.

  An agent names its household and its day group; where these are stands in
  their own tables.

  Attributes:
    household: of each agent, `[agents]`.
    group: its day group, `[agents]`.
    age: group of `tables.AGES`, `[agents]`.
    quarters: one person living by themselves among others, `[households]`.
    cluster: of 4 households, `[households]`.
    neighbourhood: of about 500 people, `[clusters]`.
    community: of 4 neighbourhoods, `[neighbourhoods]`.
    county: index into `fips`, `[communities]`.
    tract: identifier, `[communities]`.
    fips: codes, `[counties]`.
    kind: a `Kind`, `[groups]`.
    school: of a class; one past the last for other groups, `[groups]`.
    place: neighbourhood where the day is spent, `[groups]`.
    accounts: where everybody and every flow went, by name.
  """

  household: np.ndarray
  group: np.ndarray
  age: np.ndarray
  quarters: np.ndarray
  cluster: np.ndarray
  neighbourhood: np.ndarray
  community: np.ndarray
  county: np.ndarray
  tract: np.ndarray
  fips: np.ndarray
  kind: np.ndarray
  school: np.ndarray
  place: np.ndarray
  accounts: Mapping[str, int]

  def __len__(self) -> int:
    return len(self.age)

  @property
  def schools(self) -> int:
    """How many schools there are."""
    return int(self.school.max())

  @property
  def home_community(self) -> np.ndarray:
    """Community in which each agent lives, `[agents]`."""
    homes = self.neighbourhood[self.cluster[self.household]]
    return self.community[homes]

  def check(self) -> "Population":
    """Returns itself if every group fits the simulator's counts.

    Raises:
      UserError: a household or a day group is too large to be counted.
    """
    limits = {
      "household": (self.household, LARGEST_HOUSEHOLD),
      "day group": (self.group, LARGEST_GROUP),
    }
    for name, (members, most) in limits.items():
      largest = int(np.bincount(members).max(initial=0))
      if largest > most:
        raise errors.UserError(
          f"got a {name} of {largest} people; expected {most} at most: split it"
        )
    return self

  def arrays(self) -> dict[str, np.ndarray]:
    """Its arrays by name."""
    names = (field.name for field in dataclasses.fields(self))
    return {name: getattr(self, name) for name in names if name != "accounts"}

  def digest(self) -> str:
    """SHA-256 over arrays and accounts."""
    state = hashlib.sha256(json.dumps(dict(self.accounts)).encode())
    for name, array in self.arrays().items():
      state.update(f"{name} {array.dtype} {array.shape}".encode())
      state.update(np.ascontiguousarray(array).data)
    return state.hexdigest()
