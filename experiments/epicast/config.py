"""The experiment's settings; sizes are in `configs/`."""

import dataclasses
import itertools
from collections.abc import Iterator

from experiments.epicast import cells
from research.runs import config, errors


@dataclasses.dataclass(kw_only=True)
class Grid:
  """Values of fear's parameters; a study runs all their combinations.

  Attributes:
    fading_days: 1 / gamma_f, mean days that fear lasts.
    phi_ff: hazard per half-day and fearful contact.
    phi_sf: hazard per half-day and contact with symptoms.
    strength: of a broadcaster: hazard per day and share of people who got
      symptoms that day. With s, half the people are fearful where a share of
      gamma_f / s falls ill a day.
    lag: days from what happens to the broadcaster's report.
  """

  fading_days: tuple[float, ...] = (20.0, 45.0, 100.0)
  phi_ff: tuple[float, ...] = (0.0,)
  phi_sf: tuple[float, ...] = (0.0,)
  strength: tuple[float, ...] = (0.0,)
  lag: tuple[int, ...] = (1,)

  def cells(self, setting: str, cuts: tuple[float, ...]) -> list[cells.Cell]:
    """Returns its combinations, for each behaviour.

    Args:
      setting: how fear spreads.
      cuts: shares of contacts outside the household that the fearful avoid.
    """
    return [
      cells.Cell(setting, *values)
      for values in itertools.product(
        cuts,
        self.fading_days,
        self.phi_ff,
        self.phi_sf,
        self.strength,
        self.lag,
      )
    ]


@dataclasses.dataclass(kw_only=True)
class Agents:
  """Settings of the runs of agents.

  Attributes:
    people: of the town.
    days: of a run.
    index_share: share of people who are infected at the start.
    seeds: runs of each cell.
    calm_seeds: runs without fear.
    cuts: shares of contacts outside the household that fearful people avoid:
      the weak behaviour first, the strong one last.
    local: fear that spreads by contact alone.
    broadcaster: fear that broadcasters alone spread.
    both: both ways at once.
    larger: how many times larger the town is in which the broadcaster's
      strong cells run once more, with one seed; 0 for none.
  """

  people: int = 10_000
  days: int = 360
  index_share: float = 1e-3
  seeds: int = 2
  calm_seeds: int = 5
  cuts: tuple[float, ...] = (0.5, 0.9)
  local: Grid = dataclasses.field(
    default_factory=lambda: Grid(phi_ff=(0.0, 0.001, 0.01), phi_sf=(0.1, 1.0))
  )
  broadcaster: Grid = dataclasses.field(
    default_factory=lambda: Grid(strength=(10.0, 30.0, 100.0, 300.0))
  )
  both: Grid = dataclasses.field(
    default_factory=lambda: Grid(
      phi_ff=(0.001, 0.01), phi_sf=(0.1,), strength=(30.0, 300.0)
    )
  )
  larger: int = 0

  def cells(self) -> Iterator[cells.Cell]:
    """Yields every cell with fear, setting by setting."""
    for setting in cells.SETTINGS:
      yield from getattr(self, setting).cells(setting, self.cuts)

  def check(self) -> None:
    """Raises a UserError unless the fields fit together."""
    names = [cell.name for cell in self.cells()]
    if len(set(names)) < len(names):
      raise errors.UserError(
        "agents: got a combination twice, expected every value of a grid once"
      )
    for setting, ways in cells.SETTINGS.items():
      for cell in getattr(self, setting).cells(setting, self.cuts):
        found = (cell.phi_ff + cell.phi_sf > 0, cell.strength > 0)
        if found != ways:
          raise errors.UserError(
            f"agents.{setting}: got {cell.name}, expected contact "
            f"{'to' if ways[0] else 'not to'} spread fear, and broadcasters "
            f"{'to' if ways[1] else 'not to'}"
          )
    if min(self.seeds, self.calm_seeds) < 1 or len(self.cuts) < 2:
      raise errors.UserError(
        f"agents: got {self.seeds} and {self.calm_seeds} seeds and cuts "
        f"{self.cuts}, expected 1 seed or more, and a weak and a strong cut"
      )
    if list(self.cuts) != sorted(self.cuts):
      raise errors.UserError(
        f"agents.cuts: got {self.cuts}, expected the weakest first"
      )


@dataclasses.dataclass(kw_only=True)
class Surrogates:
  """Settings of the differential equations.

  Attributes:
    side: values of each parameter in a phase diagram.
    points: random sets of parameters for shares of waves, in two models.
    fits: fit the equations to runs of agents, and say where they fail.
  """

  side: int = 32
  points: int = 2048
  fits: bool = True

  def check(self) -> None:
    """Raises a UserError unless the fields fit together."""
    if min(self.side, self.points) < 2:
      raise errors.UserError(
        f"surrogates: got a side of {self.side} and {self.points} points, "
        "expected 2 or more"
      )


@dataclasses.dataclass(kw_only=True)
class Speed:
  """Settings of the timed runs.

  Attributes:
    people: of the region.
    days: of a timed run; as many go before it, so that the epidemic is on.
    index_share: share of people who are infected at the start.
    rounds: how often each kind of run is timed.
  """

  people: int = 100_000
  days: int = 30
  index_share: float = 0.01
  rounds: int = 6


@dataclasses.dataclass(kw_only=True)
class Config(config.ExperimentConfig):
  """Settings of the study.

  Attributes:
    agents: runs of the simulator.
    surrogates: differential equations.
    speed: timed runs.
  """

  agents: Agents = dataclasses.field(default_factory=Agents)
  surrogates: Surrogates = dataclasses.field(default_factory=Surrogates)
  speed: Speed = dataclasses.field(default_factory=Speed)

  def check(self) -> None:
    """Raises a UserError unless the fields fit together."""
    self.agents.check()
    self.surrogates.check()
