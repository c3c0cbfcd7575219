"""Builds populations, and keeps those built from files."""

import dataclasses
import hashlib
import io
import json
import os
import pathlib
import zipfile
from collections.abc import Iterable

import numpy as np

from research.runs import files as disk
from research.systems.epicast.population import (
  daytime,
  files,
  households,
  people,
  tables,
)

_FORMAT = 1  # raised when the same files give another population
_COMMUNITY, _DAY_COMMUNITY = 2000, 1000  # people, workers
_CLUSTER = 4  # households


def build(
  census: tables.Census,
  flows: tables.Flows,
  *,
  seed: int = 0,
  day: daytime.Daytime | None = None,
) -> people.Population:
  """Builds the population of a region.

  Args:
    census: tracts.
    flows: workers between them.
    seed: of everything that is drawn.
    day: sizes of day groups.

  Raises:
    UserError: a group is too large for the simulator.

  Example:
    >>> from research.systems.epicast.population import synthetic
    >>> population = build(*synthetic.region(1000))
    >>> len(population), population.accounts["people"]
    (1000, 1000)
  """
  residents = households.fill(census, seed)
  resident, first = _communities(census, flows)
  tract = residents.tract[residents.household]
  person = _index(tract, len(census.tract))
  # A household is where its first member would be if all stood in a row.
  head = np.searchsorted(residents.household, np.arange(len(residents.tract)))
  people_there = census.people[residents.tract]
  part = person[head].astype(np.int64) * 4 * resident[residents.tract]
  home = (4 * first[residents.tract] + part // people_there).astype(np.int32)
  cluster, of_cluster = _clusters(home)
  groups = daytime.assign(
    census,
    flows,
    daytime.Homes(
      age=residents.age,
      tract=tract,
      neighbourhood=home[residents.household],
      first=first,
      identity=(census.tract.astype(np.uint32)[tract], person.view(np.uint32)),
    ),
    day or daytime.Daytime(),
    seed,
  )
  of_community = np.repeat(np.arange(len(census.tract)), np.diff(first))
  fips, county = np.unique(census.fips, return_inverse=True)
  return people.Population(
    household=residents.household,
    group=groups.group,
    age=residents.age,
    quarters=residents.quarters,
    cluster=cluster.astype(np.int32),
    neighbourhood=of_cluster.astype(np.int32),
    community=np.repeat(np.arange(first[-1], dtype=np.int32), 4),
    county=county[of_community].astype(np.int32),
    tract=census.tract[of_community],
    fips=fips,
    kind=groups.kind,
    school=groups.school.astype(np.int32),
    place=groups.place,
    accounts={
      "people": len(residents.age),
      "households": int((~residents.quarters).sum()),
      "in_quarters": int(residents.quarters.sum()),
      "trimmed_members": residents.trimmed,
      **groups.accounts,
    },
  ).check()


def from_files(
  census: str | os.PathLike[str],
  flows: str | os.PathLike[str],
  *,
  counties: Iterable[int] = (),
  seed: int = 0,
  day: daytime.Daytime | None = None,
  cache: str | os.PathLike[str] | None = None,
) -> people.Population:
  """Builds a population from files, or takes it from the cache.

  Args:
    census: a `.dat` file.
    flows: a `.bin` or `.dat` file.
    counties: FIPS codes to keep; all if empty.
    seed: of everything that is drawn.
    day: sizes of day groups.
    cache: folder of built populations. Their names are hashes of all that they
      were made of; a damaged one is built again.

  Raises:
    UserError: a file is malformed, or there is no such county.
  """
  day, counties = day or daytime.Daytime(), sorted(counties)
  sources = pathlib.Path(census), pathlib.Path(flows)
  name = hashlib.sha256(
    json.dumps(
      [_FORMAT, seed, counties, dataclasses.asdict(day)]
      + [hashlib.sha256(files.read(path)).hexdigest() for path in sources]
    ).encode()
  ).hexdigest()
  path = pathlib.Path(cache) / f"population-{name[:20]}.npz" if cache else None
  if path and (found := _load(path)):
    return found
  region = files.census(census)
  if counties:
    region = region.counties(counties)
  made = build(region, files.flows(flows), seed=seed, day=day)
  if path:
    _save(path, made)
  return made


def _communities(
  census: tables.Census, flows: tables.Flows
) -> tuple[np.ndarray, np.ndarray]:
  """Communities of each tract that have residents, and its first one."""
  resident = np.rint(census.people / _COMMUNITY).astype(np.int64)
  resident = np.maximum(resident, census.people > 0)
  reached = np.isin(census.tract, flows.work) | (census.day_workers > 0)
  work = np.maximum(census.day_workers // _DAY_COMMUNITY, reached)
  return resident, np.append(0, np.cumsum(np.maximum(resident, work)))


def _index(group: np.ndarray, groups: int) -> np.ndarray:
  """Positions within sorted groups."""
  counts = np.bincount(group, minlength=groups)
  starts = (np.cumsum(counts) - counts).astype(np.int32)
  return np.arange(len(group), dtype=np.int32) - starts[group]


def _clusters(home: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
  """Numbers clusters of 4 households, and says where each one is."""
  slot = _index(home, int(home.max(initial=-1)) + 1)
  starts = slot % _CLUSTER == 0
  return np.cumsum(starts) - 1, home[starts]


def _save(path: pathlib.Path, population: people.Population) -> None:
  note = {"digest": population.digest(), "accounts": dict(population.accounts)}
  stream = io.BytesIO()
  arrays = {"note": np.array(json.dumps(note)), **population.arrays()}
  np.savez(stream, allow_pickle=False, **arrays)
  disk.write_bytes(path, stream.getvalue())


def _load(path: pathlib.Path) -> people.Population | None:
  """Reads what `_save` wrote; nothing if it is not there or not whole."""
  try:
    with np.load(path) as archive:
      arrays = {name: archive[name] for name in archive.files}
    note = json.loads(str(arrays.pop("note")))
    found = people.Population(**arrays, accounts=note["accounts"])
  except (OSError, EOFError, ValueError, KeyError, TypeError):
    return None
  except zipfile.BadZipFile:
    return None
  return found if found.digest() == note["digest"] else None
