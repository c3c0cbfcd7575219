"""Which all-reduce is fastest between nodes, and what does an engine gain?

  python -m experiments.multinode_inference.main \
    --config=experiments/multinode_inference/configs/laptop.py \
    --workdir=out/multinode
"""

from collections.abc import Sequence

from absl import flags
from ml_collections import config_flags

from experiments.multinode_inference import collectives_study
from research import runs

_CONFIG = config_flags.DEFINE_config_file("config", help_string="Config file.")
_WORKDIR = flags.DEFINE_string("workdir", None, "Folder for the run's files.")
_DRY_RUN = flags.DEFINE_bool("dry_run", False, "Say what a run would do.")

EXPERIMENT = runs.Experiment(
  slug="multinode_inference",
  run=collectives_study.run,
  rehearse=collectives_study.rehearse,
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
