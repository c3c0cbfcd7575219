"""The ledger of claims: what a paper says beside what was measured here."""

import dataclasses
import math
import pathlib
import typing
from typing import Any, Literal

from research.runs import errors, files
from research.telemetry import bench as bench_lib

Kind = Literal["measured", "recorded", "compiled", "modelled"]
Scope = Literal["paper", "mechanism", "beyond"]
Value = float | int | str | None


class ClaimError(errors.UserError):
  """A claim or result that breaks the contract."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Claim:
  """One sentence that a number can support or refute.

  Attributes:
    id: stable short name, unique in its experiment.
    statement: the sentence, readable without the paper.
    paper_value: what the paper reports; None where it gives no value.
    measured: what came out here; None where it could not be measured.
    unit: the unit of both values; empty for a plain number.
    kind: `measured` (ran here now), `recorded` (a committed full run),
      `compiled` (GPU code compiled and inspected, not run) or `modelled` (a
      cost model or simulator).
    scope: `paper` (the paper's own sentence at its own scale), `mechanism`
      (the same effect at ours) or `beyond` (what we add).
    holds: what the rule in the experiment's `claims.py` says; None where it
      was not judged.
    time_dependent: whether it depends on the clock, and so never gates CI.
    note: how to read it, why it was not judged, or where it was recorded.
    interval: lower and upper end of an interval around `measured`.
  """

  id: str
  statement: str
  paper_value: Value
  measured: Value
  unit: str = ""
  kind: Kind
  scope: Scope
  holds: bool | None
  time_dependent: bool = False
  note: str = ""
  interval: tuple[float, float] | None = None

  def __post_init__(self):
    for name, allowed in (("kind", Kind), ("scope", Scope)):
      options = typing.get_args(allowed)
      if getattr(self, name) not in options:
        self._refuse(name, f"one of {', '.join(options)}")
    for name in ("id", "statement"):
      if not getattr(self, name).strip():
        self._refuse(name, "a text")
    for name in ("paper_value", "measured"):
      if not _is_value(getattr(self, name)):
        self._refuse(name, "a finite number, a text or None")
    self._check_verdict()

  def _check_verdict(self) -> None:
    if not (self.holds is None or isinstance(self.holds, bool)):
      self._refuse("holds", "True, False or None (not judged)")
    if self.measured is None and self.holds is not None:
      self._refuse("holds", "None, because nothing was measured")
    if self.interval is not None:
      low, high = self.interval
      if not (math.isfinite(low) and math.isfinite(high) and low <= high):
        self._refuse("interval", "two finite, ordered numbers")

  def _refuse(self, name: str, expected: str) -> typing.NoReturn:
    raise ClaimError(
      f"claim '{self.id}': got {name}={getattr(self, name)!r}, expected "
      f"{expected}; mend it where the experiment makes its claims"
    )


@dataclasses.dataclass(frozen=True, kw_only=True)
class Result:
  """What an experiment hands over, and what `result.json` holds.

  Attributes:
    paper: the experiment's slug.
    config: the config as plain data (`config.to_dict`).
    claims: in the order in which a reader should meet them.
    bench: benchmark rows.
  """

  paper: str
  config: dict[str, Any]
  claims: tuple[Claim, ...]
  bench: tuple[bench_lib.BenchResult, ...] = ()

  def __post_init__(self):
    seen: set[str] = set()
    for claim in self.claims:
      if claim.id in seen:
        raise ClaimError(
          f"result of '{self.paper}': got two claims with the id '{claim.id}', "
          "expected unique ids; rename one"
        )
      seen.add(claim.id)

  def claim(self, claim_id: str) -> Claim | None:
    """Returns the claim of that id, if the result has it."""
    return next((c for c in self.claims if c.id == claim_id), None)


def save(result: Result, path: pathlib.Path) -> None:
  """Writes a result, as its process's last act.

  Raises:
    ClaimError: a value in it cannot be written as JSON.
  """
  try:
    files.write_json(path, dataclasses.asdict(result))
  except (TypeError, ValueError) as error:
    raise ClaimError(
      f"result of '{result.paper}': got a value that JSON cannot hold "
      f"({error}), expected finite numbers and texts; convert it first"
    ) from error


def load(path: pathlib.Path) -> Result:
  """Reads a result.

  Raises:
    ClaimError: the file is not a result of this version.
  """
  try:
    data = files.read_json(path)
    return Result(
      paper=data["paper"],
      config=data["config"],
      claims=tuple(_read_claim(claim) for claim in data["claims"]),
      bench=tuple(
        bench_lib.BenchResult.from_json(row) for row in data["bench"]
      ),
    )
  except (OSError, KeyError, TypeError, ValueError) as error:
    raise ClaimError(
      f"{path}: got no result that can be read ({error!r}), expected a "
      "result.json of this version; run the experiment again"
    ) from error


def recorded(folder: pathlib.Path) -> Result:
  """Reads a committed run, each claim marked with its origin.

  Args:
    folder: holds `result.json` and `run.json`, e.g. `results/full` of an
      experiment.

  Returns:
    The result; what was measured is now `recorded`, while compiled and
    modelled claims stay what they are.
  """
  result = load(folder / "result.json")
  run = files.read_json(folder / "run.json")
  origin = f"recorded at {run['commit'][:10]} on {run['started'][:10]}"

  def mark(claim: Claim) -> Claim:
    kind = "recorded" if claim.kind == "measured" else claim.kind
    note = f"{claim.note}; {origin}" if claim.note else origin
    return dataclasses.replace(claim, kind=kind, note=note)

  claims = tuple(mark(claim) for claim in result.claims)
  return dataclasses.replace(result, claims=claims)


def _read_claim(data: dict[str, Any]) -> Claim:
  interval = data["interval"]
  return Claim(**data | {"interval": interval and tuple(interval)})


def _is_value(value: object) -> bool:
  if isinstance(value, bool):
    return False  # `holds` says yes or no; a value is a quantity
  if isinstance(value, int | float):
    return math.isfinite(value)
  return value is None or isinstance(value, str)
