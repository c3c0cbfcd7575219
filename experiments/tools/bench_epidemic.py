"""The epidemic suite of `experiments.tools.bench`: agents beside their rivals.

Every candidate is a process of its own that runs the whole epidemic of as many
people and days, from one in a hundred infected. What counts is the processor's
time of all threads; the wall's, the share ever infected in the end (a simulator
that skips people without risk has less to do in a small epidemic), the peak of
resident memory and the kinds of contacts stand beside it. Rivals model less:
none of them has fear, and only Covasim has places.
"""

import contextlib
import dataclasses
import os
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from absl import flags

from experiments.tools import rivals
from research.telemetry import bench, peer

_PEOPLE = flags.DEFINE_integer(
  "people", 100_000, "Of the epidemic suite.", lower_bound=1000
)
_DAYS = flags.DEFINE_integer("days", 180, "Of a run.", lower_bound=1)
_CENSUS = flags.DEFINE_string(
  "census", "", "Folder with BayArea.dat: adds its 6.8 million people."
)
_SHARE, _SEED, _DEVICES = 0.01, 1, 2
_RIVALS = ("covasim", "starsim", "epiworld", "laser")
_COMMAND = "python -m experiments.tools.bench --suite=epidemic"
Suite = Iterator[tuple[str, list[bench.BenchResult]]]


def epidemic(*, rounds: int) -> Suite:
  """Times whole epidemics, beside rivals and by size.

  Args:
    rounds: timed rounds.

  Yields:
    A title and its rows, in seconds of a processor for an agent's day.
  """
  people, days = _PEOPLE.value, _DAYS.value
  with contextlib.ExitStack() as stack:
    ours = _processes(stack)
    town = {"people": people}
    beside = {
      "dectet, fear": (ours["one"], town | {"fear": True}),
      "dectet": (ours["one"], town),
    }
    for name in _RIVALS:
      rival = stack.enter_context(rivals.worker("epidemic", name))
      beside[name] = (rival, town)
    yield _group(f"{people:,} people, {days} days, CPU time", beside, rounds)
    both = {
      f"dectet, fear, {number} of {_DEVICES} cores": (
        ours[label],
        {"people": 10 * people, "fear": True, "devices": number},
      )
      for number, label in ((1, "one"), (_DEVICES, "all"))
    }
    yield _group(f"{10 * people:,} people, {days} days, CPU time", both, rounds)
    sizes = {
      f"dectet, fear, {size:,} people": (
        ours["one"],
        {"people": size, "fear": True},
      )
      for size in (people // 10, people, 10 * people)
    }
    yield _group(f"by size, {days} days, CPU time", sizes, rounds)
    if _CENSUS.value:
      bay = {"census": _CENSUS.value, "fear": True, "devices": _DEVICES}
      rows = {"dectet, fear, Bay Area": (ours["census"], bay)}
      yield _group(f"Bay Area, {days} days, CPU time", rows, 1)


def _processes(stack: contextlib.ExitStack) -> dict[str, peer.PeerProcess]:
  """Ours on one core and on all."""
  command = [sys.executable, "-m", "experiments.tools.epidemic_worker"]
  core = str(min(os.sched_getaffinity(0)))
  devices = f"XLA_FLAGS=--xla_force_host_platform_device_count={_DEVICES}"
  argv = {
    "one": ["taskset", "-c", core, *command],
    "all": ["env", devices, *command],
    "census": ["env", devices, *command],  # its peak of memory is its own
  }
  return {
    name: stack.enter_context(peer.PeerProcess(words, timeout=1800))
    for name, words in argv.items()
  }


Candidates = Mapping[str, tuple[peer.PeerProcess, Mapping[str, Any]]]


def _group(
  title: str, candidates: Candidates, rounds: int
) -> tuple[str, list[bench.BenchResult]]:
  """Times candidates in turn; what they answered stands beside the times."""
  answers: dict[str, list[Mapping[str, Any]]] = {}
  calls = {
    name: _call(*candidate, answers.setdefault(name, []))
    for name, candidate in candidates.items()
  }
  rows = bench.interleave(
    calls, rounds=rounds, unit="s/agent-day", command=_COMMAND
  )
  return title, [
    dataclasses.replace(row, meta={**row.meta, **_told(answers[row.name])})
    for row in rows
  ]


def _call(
  process: peer.PeerProcess,
  request: Mapping[str, Any],
  answers: list[Mapping[str, Any]],
) -> Callable[[], peer.Reply]:
  asked = dict(request) | {"days": _DAYS.value, "share": _SHARE, "seed": _SEED}

  def call() -> peer.Reply:
    reply = process.call(asked)
    answers.append(reply.values)
    people = reply.values.get("people", request.get("people"))
    agent_days = people * _DAYS.value
    return peer.Reply(reply.seconds / agent_days, reply.values)

  return call


def _told(answers: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
  """The shortest wall time, and what the last answer says of the epidemic."""
  if not answers:
    return {}
  last = answers[-1]
  return {
    "wall_s": round(min(answer["wall"] for answer in answers), 3),
    "attack": round(last["attack"], 4),
    "peak_mb": round(last["peak"] / 1e6),
    "contacts": last["meets"],
  }
