"""Where people spend the day: home, a class at school, or a work group."""

import dataclasses

import numpy as np

from research.systems.epicast import draws
from research.systems.epicast.population import people, sorting, tables

_LEVELS = (
  people.Kind.PRESCHOOL,
  people.Kind.ELEMENTARY,
  people.Kind.MIDDLE,
  people.Kind.HIGH,
)
# Schools of a community: a preschool in each neighbourhood, two elementary
# schools, a middle and a high school.
_SCHOOLS = 8
_WHERE = np.array([0, 1, 2, 3, 0, 2, 1, 3])  # neighbourhood of each


@dataclasses.dataclass(frozen=True, kw_only=True)
class Daytime:
  """Sizes of what fills the day.

  Attributes:
    enrolled: shares of the children of 0 to 5 who go to preschool, and of those
      of 6 to 17 who go to elementary, middle and high school; the rest stay at
      home.
    class_size: most children of a class, by level; each has one teacher.
    work_group: mean people of a work group.
    home_community: extra chance that who works in the home tract does so in the
      home community.
    returned: flows are multiplied by this, for those who were on leave in the
      week of the census.

  References:
    ExaEpi, `CensusData.cpp`: shares of levels, extra chance, absence.
  """

  enrolled: tuple[float, float, float, float] = (1.0, 0.36, 0.32, 0.25)
  class_size: tuple[int, int, int, int] = (14, 20, 20, 20)
  work_group: int = 20
  home_community: float = 0.25
  returned: float = 1.02


@dataclasses.dataclass(frozen=True)
class Groups:
  """Day groups, and who is in which; see `people.Population`."""

  group: np.ndarray
  kind: np.ndarray
  school: np.ndarray
  place: np.ndarray
  accounts: dict[str, int]


@dataclasses.dataclass(frozen=True)
class Homes:
  """What daytime needs to know of agents and places.

  Attributes:
    age: group, `[agents]`.
    tract: row of the census, `[agents]`.
    neighbourhood: `[agents]`.
    first: first community of each tract, and the number of communities at the
      end, `[tracts + 1]`.
    identity: words that name an agent in any region, two of `[agents]`.
  """

  age: np.ndarray
  tract: np.ndarray
  neighbourhood: np.ndarray
  first: np.ndarray
  identity: tuple[np.ndarray, np.ndarray]


def assign(
  census: tables.Census,
  flows: tables.Flows,
  homes: Homes,
  daytime: Daytime,
  seed: int,
) -> Groups:
  """Gives everybody a day group.

  Args:
    census: of the region.
    flows: of workers; those that leave or enter the region are counted, and
      their people stay at home.
    homes: where everybody lives.
    daytime: sizes of groups.
    seed: of the population.

  Returns:
    Groups: first a home group a neighbourhood, then classes, then work groups.
  """

  def draw(decision: str) -> tuple[np.ndarray, np.ndarray]:
    return draws.words(draws.key(seed, decision), *homes.identity)

  neighbourhoods = 4 * int(homes.first[-1])
  group = homes.neighbourhood.copy()
  kinds = [np.zeros(neighbourhoods, np.int64)]
  schools = [np.full(neighbourhoods, -1)]
  places = [np.arange(neighbourhoods)]

  pupils, school = _pupils(homes, daytime, draw("school")[0])
  size = np.array(daytime.class_size)[_level(school)]
  room, of_class = _chunks(school, draw("class")[0][pupils], size)
  group[pupils] = neighbourhoods + room
  kinds.append(np.array(_LEVELS)[_level(of_class)])
  schools.append(of_class)
  places.append(_place(of_class))

  workers, community, accounts = _workers(census, flows, homes, daytime, draw)
  chance = draw("work group")[0][workers]
  classes = len(of_class)
  by_community = np.argsort(of_class // _SCHOOLS, kind="stable")
  teachers = _teachers(community, chance, of_class[by_community] // _SCHOOLS)
  teaches = teachers >= 0
  group[workers[teaches]] = neighbourhoods + by_community[teachers[teaches]]
  others, community = workers[~teaches], community[~teaches]
  size = np.full(len(others), daytime.work_group)
  room, of_group = _chunks(community, chance[~teaches], size, nearest=True)
  group[others] = neighbourhoods + classes + room
  turn = sorting.rank(of_group, np.arange(len(of_group), dtype=np.uint32))
  kinds.append(np.full(len(of_group), people.Kind.WORK))
  schools.append(np.full(len(of_group), -1))
  places.append(4 * of_group + turn % 4)

  school = np.concatenate(schools)
  known = np.unique(school[school >= 0])
  accounts |= {
    "pupils": len(pupils),
    "teachers": int(teaches.sum()),
    "classes_without_teacher": classes - int(teaches.sum()),
    "work_groups": len(of_group),
  }
  return Groups(
    group=group,
    kind=np.concatenate(kinds).astype(np.uint8),
    school=np.where(school < 0, len(known), np.searchsorted(known, school)),
    place=np.concatenate(places).astype(np.int32),
    accounts=accounts,
  )


def _level(school: np.ndarray) -> np.ndarray:
  return np.array([0, 0, 0, 0, 1, 1, 2, 3])[school % _SCHOOLS]


def _place(school: np.ndarray) -> np.ndarray:
  return 4 * (school // _SCHOOLS) + _WHERE[school % _SCHOOLS]


def _pupils(
  homes: Homes, daytime: Daytime, chance: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
  """Who goes to school, and to which."""
  part = homes.neighbourhood % 4
  first, *later = daytime.enrolled
  limit = np.cumsum(later)
  chance = draws.uniform(chance)
  level = np.searchsorted(limit, chance, side="right")
  slot = np.select([level == 0, level == 1, level == 2], [4 + part // 2, 6, 7])
  small = homes.age == 0
  goes = small & (chance < first) | (homes.age == 1) & (level < 3)
  slot = np.where(small, part, slot)
  pupils = np.flatnonzero(goes)
  return pupils, (homes.neighbourhood // 4 * _SCHOOLS + slot)[pupils]


def _chunks(
  where: np.ndarray,
  chance: np.ndarray,
  size: np.ndarray,
  *,
  nearest: bool = False,
) -> tuple[np.ndarray, np.ndarray]:
  """Divides the people of each place into even groups at random.

  Args:
    where: place of each person.
    chance: random words.
    size: of a group there.
    nearest: groups are of this size on average, not at most.

  Returns:
    The group of each person, and the place of each group.
  """
  if not len(where):
    return np.zeros(0, np.int64), np.zeros(0, np.int64)
  rank = sorting.rank(where, chance)
  counts = np.bincount(where)
  wanted = np.zeros(len(counts))
  wanted[where] = counts[where] / size
  rooms = np.rint(wanted) if nearest else np.ceil(wanted)
  rooms = np.maximum(rooms, counts > 0).astype(np.int64)
  first = np.cumsum(rooms) - rooms
  room = first[where] + rank * rooms[where] // counts[where]
  return room, np.repeat(np.arange(len(counts)), rooms)


def _workers(census, flows, homes, daytime, draw):
  """Who works, in which community, and what became of the flows."""
  order = np.argsort(census.tract, kind="stable")

  def row(tract):
    at = np.searchsorted(census.tract, tract, sorter=order)
    at = order[np.minimum(at, len(order) - 1)]
    return np.where(census.tract[at] == tract, at, -1)

  home, work = row(flows.home), row(flows.work)
  inside = (home >= 0) & (work >= 0)
  accounts = {
    "workers_in_flows": int(flows.workers.sum()),
    "workers_from_outside": int(flows.workers[home < 0].sum()),
    "workers_to_outside": int(flows.workers[(home >= 0) & (work < 0)].sum()),
  }
  home, work = home[inside], work[inside]
  number = np.floor(flows.workers[inside] * daytime.returned + 0.5)
  number = number.astype(np.int64)
  at = np.lexsort((work, home))
  home, work, number = home[at], work[at], number[at]
  accounts["workers_wanted"] = int(number.sum())

  able = np.flatnonzero((homes.age == 2) | (homes.age == 3))
  pool = np.bincount(homes.tract[able], minlength=len(census.tract))
  for tract in np.flatnonzero(
    np.bincount(home, weights=number, minlength=len(pool)) > pool
  ):
    rows = home == tract
    number[rows] = tables.shares(int(pool[tract]), number[rows])
  accounts["workers_beyond_adults"] = accounts["workers_wanted"] - int(
    number.sum()
  )
  wanted = np.bincount(home, weights=number, minlength=len(pool))
  rank = sorting.rank(homes.tract[able], draw("worker")[0][able])
  works = rank < wanted[homes.tract[able]]
  workers = able[works]
  starts = (np.cumsum(wanted) - wanted).astype(np.int64)
  turn = starts[homes.tract[workers]] + rank[works]
  goal = np.repeat(work, number)[turn]
  accounts["workers"] = len(workers)

  stays, where = (bits[workers] for bits in draw("work community"))
  span = (homes.first[1:] - homes.first[:-1])[goal]
  community = homes.first[goal] + draws.below(where, span)
  stays = draws.uniform(stays) < daytime.home_community
  own = stays & (goal == homes.tract[workers])
  live = homes.neighbourhood[workers] // 4
  return workers, np.where(own, live, community), accounts


def _teachers(
  community: np.ndarray, chance: np.ndarray, wanted: np.ndarray
) -> np.ndarray:
  """The class that each worker teaches, -1 for most.

  Args:
    community: in which each works.
    chance: random words.
    wanted: community of each class, in order.
  """
  if not len(community):
    return np.zeros(0, np.int64)
  most = int(max(community.max(), wanted.max(initial=0))) + 1
  classes = np.bincount(wanted, minlength=most)
  rank = sorting.rank(community, chance)
  first = np.cumsum(classes) - classes
  return np.where(rank < classes[community], first[community] + rank, -1)
