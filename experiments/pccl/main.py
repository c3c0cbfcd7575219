"""Do two-level all-gathers and reduce-scatters pay, also in training?

  python -m experiments.pccl.main \
    --config=experiments/pccl/configs/laptop.py --workdir=out/pccl
"""

from collections.abc import Sequence

from absl import flags
from ml_collections import config_flags

from experiments.pccl import study
from research import runs

_CONFIG = config_flags.DEFINE_config_file("config", help_string="Config file.")
_WORKDIR = flags.DEFINE_string("workdir", None, "Folder for the run's files.")
_DRY_RUN = flags.DEFINE_bool("dry_run", False, "Say what a run would do.")

EXPERIMENT = runs.Experiment(
  slug="pccl", run=study.run, rehearse=study.rehearse
)


def main(argv: Sequence[str]) -> int:
  """Runs the experiment that the flags describe."""
  del argv
  return runs.execute(
    EXPERIMENT,
    _CONFIG.value,
    workdir=_WORKDIR.value,
    dry_run=_DRY_RUN.value,
  )


if __name__ == "__main__":
  flags.mark_flag_as_required("config")
  runs.launch(main)
