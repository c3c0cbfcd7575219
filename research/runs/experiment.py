"""Runs one experiment by the contract that all of them share."""

import contextlib
import dataclasses
import json
import os
import pathlib
import sys
import time
import traceback
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from absl import logging

from research.cluster import setup
from research.runs import claims, errors, figures, formats
from research.runs import config as config_lib
from research.runs import units as units_lib
from research.runs import workdir as workdir_lib
from research.telemetry import metrics, trace

if TYPE_CHECKING:
  from matplotlib import figure

TRACEBACK = "DECTET_TRACEBACK"  # set to 1 for the traceback of a user error

ConfigT = TypeVar("ConfigT", bound=config_lib.ExperimentConfig)


@dataclasses.dataclass
class Context:
  """What an experiment gets to work with.

  Attributes:
    workdir: where its files go.
  """

  workdir: workdir_lib.Workdir
  _figures: int = 0

  def units(self, stage: str) -> units_lib.Units:
    """Opens a stage of long work that survives being killed."""
    return units_lib.Units(self.workdir, stage)

  def metrics(self, *, resume_step: int | None = None) -> metrics.MetricWriter:
    """Opens the run's metric writer; close it, or use it in a `with`."""
    return metrics.MetricWriter(self.workdir.path, resume_step=resume_step)

  def figure(
    self, fig: "figure.Figure", name: str, *, title: str, caption: str
  ) -> None:
    """Saves a figure; the report shows them in the order of these calls.

    Args:
      fig: drawn inside `figures.style()`.
      name: short file name without suffix.
      title: what it shows, in a few words.
      caption: how to read it, for somebody who has not read the paper.
    """
    self._figures += 1
    if self.workdir.writes:
      file = f"{self._figures:02d}-{name}.svg"
      path = self.workdir.path / "figures" / file
      figures.save(fig, path, title=title, caption=caption)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Experiment(Generic[ConfigT]):
  """An experiment, as its `main.py` hands it over.

  Attributes:
    slug: its name, one of `experiments/papers.py`.
    run: does the work and returns the result; called with config and context.
    rehearse: what `--dry_run` does: compiles or sizes the work without doing
      it, and returns lines that say what it found.
    user_errors: exceptions, besides `UserError`, whose text a user can act on.
  """

  slug: str
  run: Callable[[ConfigT, Context], claims.Result]
  rehearse: Callable[[ConfigT], str]
  user_errors: tuple[type[Exception], ...] = ()


def execute(
  experiment: Experiment[ConfigT],
  config: ConfigT,
  *,
  workdir: pathlib.Path | str | None,
  dry_run: bool = False,
) -> int:
  """Runs an experiment in its workdir, resumes it, or sees that it is done.

  Args:
    experiment: what to run.
    config: its config, flags applied.
    workdir: the folder that holds the run afterwards; only a dry run can do
      without.
    dry_run: only print the config and what `rehearse` says; writes nothing.

  Returns:
    The exit code: 0 done, 2 a mistake that the user can mend (one line on
    stderr), 130 interrupted. Any other exception passes through.
  """
  try:
    setup()
    if dry_run:
      print(json.dumps(config_lib.to_dict(config), indent=2))
      print(experiment.rehearse(config))
      return 0
    if not workdir:
      raise errors.UserError(
        "got no --workdir, expected a folder for the run; pass --workdir=DIR"
      )
    return _run(experiment, config, pathlib.Path(workdir))
  except (errors.UserError, *experiment.user_errors) as error:
    return report_user_error(error)
  except KeyboardInterrupt:
    print(
      f"interrupted; the same command resumes from {workdir}", file=sys.stderr
    )
    return 130


def report_user_error(error: Exception) -> int:
  """Prints a user's mistake as one line and returns the exit code for it."""
  if os.environ.get(TRACEBACK) == "1" or logging.get_verbosity() >= 1:
    traceback.print_exception(error)
  line = " ".join(str(error).split())
  print(f"error: {line}", file=sys.stderr)
  return 2


def _run(
  experiment: Experiment[ConfigT], config: ConfigT, path: pathlib.Path
) -> int:
  import jax

  folder = workdir_lib.Workdir(path, writes=jax.process_index() == 0)
  with folder.hold():
    folder.claim(config)
    if folder.finished:
      print(f"{path}: this run is finished; its result is in result.json")
      return 0
    run = folder.begin(config.seed)
    start = time.monotonic()
    with _profiled(path, config):
      result = experiment.run(config, Context(folder))
    _check(experiment, result)
    folder.end(run, time.monotonic() - start)
    if folder.writes:
      claims.save(result, path / "result.json")  # last: it says "finished"
      print(summary(result))
  return 0


def _profiled(
  path: pathlib.Path, config: config_lib.ExperimentConfig
) -> contextlib.AbstractContextManager[Any]:
  return trace.profile(path / "profile", enabled=config.profile)


def _check(experiment: Experiment[Any], result: claims.Result) -> None:
  if result.paper != experiment.slug:
    raise claims.ClaimError(
      f"result: got paper='{result.paper}', expected '{experiment.slug}'; mend "
      "it where the experiment makes its result"
    )


def summary(result: claims.Result) -> str:
  """Returns a line for each claim: verdict, statement and value."""
  return "\n".join(
    f"{formats.verdict(claim.holds):>10}  {claim.statement} "
    f"({formats.with_unit(claim.measured, claim.unit)})"
    for claim in result.claims
  )
