"""A town in which every key of a scenario matters."""

import copy
import dataclasses
import datetime
import json
from typing import Any

from research.systems.epicast import engine, outputs
from research.systems.epicast.scenario import compiling
from research.systems.epicast.scenario import scenario as scenario_lib
from tests.systems.epicast import cases

DAYS = 24


def _plain(table):
  """What TOML would hold of a dataclass."""
  return json.loads(json.dumps(dataclasses.asdict(table)))


_TABLES: dict[str, Any] = {
  "duration": DAYS,
  "checkpoint_interval": 8,
  "start_date": datetime.date(2020, 3, 25),
  "index_cases": {"1": 6, "2": 4},
  "population": {"people": 400, "counties": 2},
  "daytime": _plain(cases.SMALL_GROUPS),
  "contacts": _plain(cases.STRONG),
  "fear": _plain(cases.FEAR),
  "policies": {
    "6": {"work": [{"scale": 0.7}]},
    "9": {"shelter": [{"compliance": 0.2, "fips": [2]}]},
  },
}


# On air, off and on again within the days.
_TABLES["fear"]["broadcasters"][1] |= {
  "strength": 10.0,
  "threshold": 0.0175,
  "until": 0.005,
}


def tables(changes=None):
  """What a file would hold, some keys changed.

  Args:
    changes: by dotted path; a number in it is a place in a list.
  """
  raw = copy.deepcopy(_TABLES)
  for path, value in (changes or {}).items():
    *above, name = path.split(".")
    table: Any = raw
    for part in above:
      table = (
        table[int(part)] if part.isdecimal() else table.setdefault(part, {})
      )
    table[name] = value
  return raw


def scenario(changes=None):
  """A scenario."""
  return scenario_lib.from_tables(tables(changes))


def run(read, *, replicate=0):
  """All that a run of a scenario puts out, by table and column."""
  model = compiling.compile_scenario(read)
  state, days = model.start(replicate), []
  for _ in range(read.duration):
    state, daily = engine.run(model.world, state, days=1)
    days.append(daily)
  found = (
    outputs.daily(model, replicate, 0, days),
    outputs.ages(model, replicate, state),
  )
  return found[0] | {f"ages_{name}": col for name, col in found[1].items()}
