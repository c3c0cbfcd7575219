"""What the simulator needs to know of a machine, from its TOML file."""

import dataclasses
import difflib
import pathlib
import tomllib
from collections.abc import Mapping
from typing import NamedTuple

from collectives import schedule as sched
from collectives import simulator

_FOLDER = pathlib.Path(__file__).parent


class Constant(NamedTuple):
  """One figure.

  Attributes:
    value: in `unit`.
    unit: its unit.
    certain: a data sheet or a site's documentation states it (one without an
      address was not read again for this file); otherwise it is an assumption,
      which `source` explains.
    source: where it comes from.
  """

  value: float | int
  unit: str
  certain: bool
  source: str


@dataclasses.dataclass(frozen=True)
class Profile:
  """A machine of equal nodes.

  Attributes:
    name: its name.
    vendor: the collectives library of its GPUs, `"nccl"` or `"rccl"`.
    gpu: generation, as the library's tuner tells them apart.
    cpu: likewise.
    constants: `ranks` and `cards` of a node; `bandwidth` of a card and
      `latency` between hosts; `software`, what GPU memory adds to a message;
      `local_bandwidth` and `local_latency` of a GPU in its node;
      `memory_bandwidth` of a GPU; `host_link` of a GPU to the host's memory and
      `host_memory` of all cores; `launch` of a kernel.
  """

  name: str
  vendor: str
  gpu: str
  cpu: str
  constants: Mapping[str, Constant]

  def __getitem__(self, constant: str) -> float | int:
    """The value of a constant."""
    return self.constants[constant].value

  def grid(self, ranks: int) -> sched.Grid:
    """The nodes that so many ranks fill.

    Raises:
      ValueError: if a node would be filled in part.
    """
    local = int(self["ranks"])
    if ranks % local:
      raise ValueError(
        f"ranks: got {ranks}, expected a multiple of {local}, the ranks of a "
        f"node of {self.name}"
      )
    return sched.Grid(ranks // local, local)

  def network(self, ranks: int) -> simulator.Network:
    """The links between GPUs' memories; each reduces at memory speed."""
    return simulator.Network(
      self.grid(ranks),
      latency=self["latency"] + self["software"],
      bandwidth=self["bandwidth"],
      local_latency=self["local_latency"],
      local_bandwidth=self["local_bandwidth"],
      cards=int(self["cards"]),
      gamma=3 / self["memory_bandwidth"],  # two reads and a write
      launch=self["launch"],
    )

  def scaled(self, factor: float | int) -> "Profile":
    """Multiplies the times, and divides the speeds, that are not certain.

    Says how much a modelled figure owes to assumptions.
    """
    changed = {
      name: one
      if one.certain
      else one._replace(
        value=one.value * factor if one.unit == "s" else one.value / factor
      )
      for name, one in self.constants.items()
    }
    return dataclasses.replace(self, constants=changed)

  def __str__(self) -> str:
    """One line a constant, with its source."""
    lines = [self.name]
    for name, (value, unit, certain, source) in self.constants.items():
      mark = "" if certain else " (assumed)"
      lines.append(f"{name}: {value:g} {unit}{mark}: {source}")
    return "\n".join(lines)


def names() -> list[str]:
  """The machines that there are.

  Example:
    >>> names()
    ['frontier', 'perlmutter', 'vista']
  """
  return sorted(path.stem for path in _FOLDER.glob("*.toml"))


def load(name: str) -> Profile:
  """Reads a machine's profile.

  Raises:
    ValueError: if there is none of that name.

  Example:
    >>> frontier = load("frontier")
    >>> frontier["bandwidth"], frontier.grid(2048)
    (25000000000.0, Grid(nodes=256, local=8))
  """
  if name not in names():
    close = difflib.get_close_matches(name, names(), n=1)
    hint = f"; did you mean {close[0]!r}?" if close else ""
    raise ValueError(f"machine: got {name!r}, expected one of {names()}{hint}")
  text = (_FOLDER / f"{name}.toml").read_text(encoding="utf-8")
  read = tomllib.loads(text)
  words = {key: read.pop(key) for key in ("name", "vendor", "gpu", "cpu")}
  return Profile(
    **words, constants={key: Constant(**one) for key, one in read.items()}
  )
