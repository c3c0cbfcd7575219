"""The experiment contract: config, workdir, resume, claims, figures, report.

An experiment's `main.py` defines the flags and hands over to this package:

  EXPERIMENT = runs.Experiment(slug="...", run=run, rehearse=rehearse)

  def main(argv):
    if len(argv) > 1:
      raise app.UsageError(f"got {argv[1]!r}, expected flags only")
    return runs.execute(
      EXPERIMENT, CONFIG.value, workdir=WORKDIR.value, dry_run=DRY_RUN.value
    )

  if __name__ == "__main__":
    flags.mark_flag_as_required("config")
    runs.launch(main)
"""

from research.runs.claims import Claim, ClaimError, Result
from research.runs.cli import launch
from research.runs.config import ExperimentConfig
from research.runs.errors import UserError
from research.runs.experiment import (
  Context,
  Experiment,
  execute,
  report_user_error,
)
from research.runs.units import Units
from research.runs.workdir import Workdir

__all__ = [
  "Claim",
  "ClaimError",
  "Context",
  "Experiment",
  "ExperimentConfig",
  "Result",
  "Units",
  "UserError",
  "Workdir",
  "execute",
  "launch",
  "report_user_error",
]
