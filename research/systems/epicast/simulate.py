"""Runs a scenario: replicates, progress, outputs, interruption, resumption.

A run's folder holds `manifest.json` (scenario, its digest, seed, versions,
accounts of people and flows, what became of each replicate, files), `run.json`
(commands and machine), tables over all finished replicates (`daily`, `ages`,
`attack`, `rt`, and if events are kept `events`, `tree`, `cohorts`, `routes`,
each as Parquet and CSV), `report.json`, and a folder a replicate with its own
tables, which grow as it runs, and its last checkpoint.
"""

import hashlib
import pathlib
import signal
import sys
import threading
import time
import traceback
import types
from typing import Any

import jax
import numpy as np

from research import cluster, runs
from research import mesh as mesh_lib
from research.cluster import probe
from research.data import artifacts
from research.runs import errors, files
from research.systems.epicast import (
  checkpoint,
  eventlog,
  maps,
  outputs,
  progress,
  replicate,
  report,
)
from research.systems.epicast.scenario import compiling, identity
from research.systems.epicast.scenario import scenario as scenario_lib
from research.telemetry import memory

_FORMAT = 1  # of the folder


def execute(path: pathlib.Path | str, folder: pathlib.Path | str) -> int:
  """Runs a scenario file for the command line.

  Args:
    path: of the file.
    folder: of the run; what an earlier one left there is continued.

  Returns:
    The exit code: 0 done, 1 a replicate failed, 2 a mistake that the user can
    mend (one line on stderr), 130 interrupted.
  """
  try:
    memory.return_large()
    cluster.setup()
    devices = jax.local_device_count()
    manifest = run(scenario_lib.read(path), folder, devices=devices)
  except errors.UserError as error:
    return runs.report_user_error(error)
  except KeyboardInterrupt:
    print(
      f"interrupted; the same command resumes from {folder}", file=sys.stderr
    )
    return 130
  if "report" in manifest:
    print(sentence(manifest["report"]))
  states = manifest["runs"].items()
  failed = [name for name, found in states if found["state"] == "failed"]
  if failed:
    print(
      f"error: replicates {', '.join(failed)} failed; error.txt in their "
      f"folders in {folder} says why; the same command tries them again",
      file=sys.stderr,
    )
  return 1 if failed else 0


def run(
  scenario: scenario_lib.Scenario,
  folder: pathlib.Path | str,
  *,
  cache: pathlib.Path | str | None = None,
  devices: int = 1,
) -> dict[str, Any]:
  """Runs, or continues, a scenario in a folder.

  A run that was killed goes on from its replicates' last checkpoints, and its
  outputs are the same bits as those of one that was not. A run that is done
  goes on if it is asked for more days or replicates. Ctrl-C ends it after a few
  more days, with a checkpoint; a second one at once.

  Args:
    scenario: as read.
    folder: of the run.
    cache: folder of built populations; one in `folder` if left out.
    devices: of this machine over which agents are spread; no output depends
      on it, and a run may go on with another number.

  Returns:
    The manifest.

  Raises:
    UserError: the folder belongs to another scenario, or data do not fit.
    KeyboardInterrupt: after all is written.
  """
  work = runs.Workdir(folder)
  with work.hold():
    manifest = _claim(work.path, scenario)
    began = time.monotonic()
    session = work.begin(scenario.rng_seed)
    model = compiling.compile_scenario(
      scenario, cache=cache or work.path / "cache", multiple=devices
    )
    memory.release()  # of what building people took
    for notice in model.notices():
      print(f"note: {notice}")
    manifest |= {
      "people": len(model.population),
      "population": model.population.digest(),
      "accounts": model.accounts(),
      "runs": {},
    }
    try:
      with _Patience() as patience:
        _replicates(model, work.path, manifest, patience, devices)
    finally:
      _finish(work.path, scenario, manifest)
    work.end(session, time.monotonic() - began)
  return manifest


def sentence(summary: dict[str, Any]) -> str:
  """Says a report in a line.

  Args:
    summary: of `report.write`.
  """

  def say(name: str, form: str, scale: int = 1) -> str:
    low, middle, high = (
      format(scale * summary[name][key], form) for key in ("q05", "q50", "q95")
    )
    return f"{middle} ({low} to {high})"

  return (
    f"{summary['replicates']} runs of {summary['days']} days, median (5 to "
    f"95 %): infected {say('attack_rate', '.1f', 100)} %, peak on day "
    f"{say('peak_day', '.0f')} with {say('peak_new_infections', ',.0f')} new "
    f"infections, largest R {say('largest_r', '.2f')}"
  )


def _claim(
  folder: pathlib.Path, scenario: scenario_lib.Scenario
) -> dict[str, Any]:
  """The manifest of a folder that is new, or of the same scenario."""
  wanted = identity.describe(scenario)
  path = folder / "manifest.json"
  asked = {name: getattr(scenario, name) for name in identity.APART}
  if path.exists():
    found = files.read_json(path)
    identity.require_same(found["scenario"], wanted, f"workdir {folder}")
    for name in ("duration", "replicates"):
      if asked[name] < found[name]:
        raise errors.UserError(
          f"{name}: got {asked[name]}; expected at least the {found[name]} of "
          f"the run in {folder}: choose another folder"
        )
    for name in ("output_level", "events"):
      if asked[name] != found.get(name, False):
        raise errors.UserError(
          f"{name}: got {asked[name]}; expected that of the run in {folder}, "
          f"{found.get(name, False)}: choose another folder"
        )
  manifest = {
    "format": _FORMAT,
    "digest": identity.digest(wanted),
    **asked,
    "versions": probe.machine(),
    "scenario": wanted,
  }
  files.write_json(path, manifest)
  return manifest


def _replicates(
  model: compiling.Model,
  folder: pathlib.Path,
  manifest: dict[str, Any],
  patience: "_Patience",
  devices: int,
) -> None:
  """Runs all replicates; one that fails is noted and leaves others alone."""
  scenario = model.scenario
  mesh = mesh_lib.make_mesh({"data": devices}) if devices > 1 else None
  with progress.Meter(len(model.population), scenario.duration) as meter:
    for number in range(scenario.replicates):
      place = _place(folder, number)
      stamp = checkpoint.Stamp(manifest["scenario"], number)
      try:
        found = replicate.run(model, place, stamp, meter, patience, mesh)
        (place / "error.txt").unlink(missing_ok=True)
      except errors.UserError:
        raise  # the other replicates would say the same
      except Exception:
        files.write_text(place / "error.txt", traceback.format_exc())
        found = {"state": "failed"}
      manifest["runs"][str(number)] = found


def _finish(
  folder: pathlib.Path,
  scenario: scenario_lib.Scenario,
  manifest: dict[str, Any],
) -> None:
  """Puts the tables of finished replicates together."""
  done = [
    _place(folder, int(number))
    for number, found in manifest["runs"].items()
    if found["state"] == "done"
  ]
  if done:
    daily, ages = (
      outputs.join([outputs.read(place / name) for place in done])
      for name in ("daily.parquet", "ages.parquet")
    )
    tables = {
      name: outputs.write_both(folder, name, table)
      for name, table in (("daily", daily), ("ages", ages))
    }
    summary = report.write(folder, daily, ages, scenario.disease)
    tables |= summary.pop("files")
    if scenario.events:
      log = outputs.join([eventlog.read(place) for place in done])
      told = report.write_tree(folder, log, scenario.duration)
      tables |= told.pop("files")
      summary |= told
      files.write_json(folder / "report.json", summary)
    if scenario.census_file:  # other counties are made up
      tables |= _map(folder)
    manifest |= {"files": tables, "report": summary}
  files.write_json(folder / "manifest.json", manifest)


def _map(folder: pathlib.Path) -> dict[str, Any]:
  """Draws the attack rate of each county, if their borders can be had."""
  table = outputs.read(folder / "attack.parquet")
  fips = table["fips"].astype(float)
  all_ages = np.array([not isinstance(age, str) for age in table["age"]])
  counties = all_ages & ~np.isnan(fips)  # the last row is of the region
  rates = zip(fips[counties], table["mean"][counties], strict=True)
  said = "attack rate by county: share of residents ever infected, mean"
  path = folder / "attack.svg"
  try:
    maps.choropleth(
      path,
      {int(code): float(rate) for code, rate in rates},
      title="Attack rate by county",
      caption=f"{said} over replicates. Borders: U.S. Census Bureau.",
    )
  except (errors.UserError, artifacts.ArtifactError) as error:
    print(f"note: no map: {error}")
    return {}
  digest = hashlib.sha256(path.read_bytes()).hexdigest()
  return {"map": {"about": said, "sha256": {"svg": digest}}}


def _place(folder: pathlib.Path, number: int) -> pathlib.Path:
  return folder / "replicates" / f"{number:04d}"


class _Patience:
  """Turns the first Ctrl-C into a wish, the second into an interruption."""

  def __init__(self) -> None:
    self.over = False

  def __enter__(self) -> "_Patience":
    self._main = threading.current_thread() is threading.main_thread()
    if self._main:
      self._before = signal.signal(signal.SIGINT, self._hear)
    return self

  def _hear(self, number: int, frame: types.FrameType | None) -> None:
    del number, frame
    if self.over:
      raise KeyboardInterrupt
    self.over = True
    print("ending after these days; Ctrl-C again ends at once", file=sys.stderr)

  def __exit__(self, *_: object) -> None:
    if self._main:
      signal.signal(signal.SIGINT, self._before)
