"""When does fear of a disease give it more than one wave?

  python -m experiments.epicast.main \
    --config=experiments/epicast/configs/laptop.py --workdir=out/epicast

One scenario of one's own, without the study:

  python -m experiments.epicast.main --scenario=town.toml --workdir=out/town
"""

from collections.abc import Sequence

from absl import flags
from ml_collections import config_flags

from experiments.epicast import scenario, study
from research import runs

_CONFIG = config_flags.DEFINE_config_file("config", help_string="Config file.")
_SCENARIO = flags.DEFINE_string("scenario", None, "Scenario file to run alone.")
_WORKDIR = flags.DEFINE_string("workdir", None, "Folder for the run's files.")
_DRY_RUN = flags.DEFINE_bool("dry_run", False, "Say what a run would do.")

EXPERIMENT = runs.Experiment(
  slug="epicast", run=study.run, rehearse=study.rehearse
)


def main(argv: Sequence[str]) -> int:
  """Runs the study, or the scenario, that the flags describe."""
  del argv
  if (_SCENARIO.value is None) == (_CONFIG.value is None):
    return runs.report_user_error(
      runs.UserError(
        "got both or neither of --config and --scenario, expected one of them; "
        "pass a config file for the study or a scenario file to run alone"
      )
    )
  if _SCENARIO.value is not None:
    return scenario.execute(
      _SCENARIO.value, _WORKDIR.value, dry_run=_DRY_RUN.value
    )
  return runs.execute(
    EXPERIMENT,
    _CONFIG.value,
    workdir=_WORKDIR.value,
    dry_run=_DRY_RUN.value,
  )


if __name__ == "__main__":
  runs.launch(main)
