"""One scenario file, run from the experiment's command line."""

from absl import logging

from research import runs
from research.systems.epicast import simulate
from research.systems.epicast.scenario import compiling
from research.systems.epicast.scenario import scenario as scenario_lib


def execute(path: str, workdir: str | None, *, dry_run: bool) -> int:
  """Runs a scenario file, or says what a run would do.

  Args:
    path: of the file.
    workdir: folder of the run; only a dry run can do without.
    dry_run: read the file, build its people, and write nothing.

  Returns:
    The exit code, as of `simulate.execute`.
  """
  try:
    if dry_run:
      print(rehearse(path))
      return 0
    if not workdir:
      raise runs.UserError(
        "got no --workdir, expected a folder for the run; pass --workdir=DIR"
      )
  except runs.UserError as error:
    return runs.report_user_error(error)
  if logging.get_verbosity() == logging.INFO:
    logging.set_verbosity(logging.WARNING)  # orbax tells of every file
  return simulate.execute(path, workdir)


def rehearse(path: str) -> str:
  """Says what a run of a scenario file would do.

  Args:
    path: of the file.

  Raises:
    UserError: the file, or data that it names, are wrong.
  """
  wanted = scenario_lib.read(path)
  model = compiling.compile_scenario(wanted)
  lines = [
    f"{wanted.replicates} runs of {wanted.duration} days, "
    f"{len(model.population):,} people, "
    f"{model.accounts()['index_cases']:,} index cases"
  ]
  return "\n".join((*lines, *(f"note: {one}" for one in model.notices())))
