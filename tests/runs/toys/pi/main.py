"""Runs the toy experiment: pi by throwing darts, one unit per seed."""

from collections.abc import Sequence

from absl import app, flags
from ml_collections import config_flags
from toys.pi import experiment  # pyrefly: ignore[missing-import]

from research import runs

_CONFIG = config_flags.DEFINE_config_file("config", lock_config=True)
_WORKDIR = flags.DEFINE_string("workdir", None, "the run's folder")
_DRY_RUN = flags.DEFINE_bool("dry_run", False, "print the plan, run nothing")

_EXPERIMENT = runs.Experiment(
  slug="pi",
  run=experiment.run,
  rehearse=experiment.rehearse,
  user_errors=(experiment.BoardError,),
)


def main(argv: Sequence[str]) -> int:
  if len(argv) > 1:
    raise app.UsageError(f"got {argv[1]!r}, expected flags only")
  return runs.execute(
    _EXPERIMENT, _CONFIG.value, workdir=_WORKDIR.value, dry_run=_DRY_RUN.value
  )


if __name__ == "__main__":
  flags.mark_flag_as_required("config")
  runs.launch(main)
