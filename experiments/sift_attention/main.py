"""Does the power law of attention scores hold in a real language model?

  python -m experiments.sift_attention.main \
    --config=experiments/sift_attention/configs/laptop.py --workdir=out/sift
"""

from collections.abc import Sequence

from absl import flags
from ml_collections import config_flags

from experiments.sift_attention import study
from research import runs
from research.data import artifacts, gguf, tokenizer
from research.transformer import checkpoints

_CONFIG = config_flags.DEFINE_config_file("config", help_string="Config file.")
_WORKDIR = flags.DEFINE_string("workdir", None, "Folder for the run's files.")
_DRY_RUN = flags.DEFINE_bool("dry_run", False, "Say what a run would do.")

EXPERIMENT = runs.Experiment(
  slug="sift_attention",
  run=study.run,
  rehearse=study.rehearse,
  user_errors=(
    artifacts.ArtifactError,
    checkpoints.CheckpointError,
    gguf.GGUFError,
    tokenizer.TokenizerError,
  ),
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
