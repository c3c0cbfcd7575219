"""The entry point of every `main.py`: flag mistakes end with one line too."""

import sys
from collections.abc import Callable, Sequence

from absl import app, flags, logging
from ml_collections import config_flags

from research.runs import compilation, errors, experiment


def launch(main: Callable[[Sequence[str]], int | None]) -> None:
  """Parses the flags, runs `main` and exits with what it returns.

  Does what `absl.app.run` does; a flag, config file or config field that does
  not exist, or a value of the wrong type, ends with one line and code 2.

  Args:
    main: gets what is left of the command line.
  """
  # Without a TPU, JAX says so on every start.
  logging.logging.getLogger("jax._src.xla_bridge").setLevel("WARNING")
  compilation.keep()
  app.run(main, flags_parser=_parse)


def _parse(argv: Sequence[str]) -> list[str]:
  try:
    left = flags.FLAGS(list(argv))
    if "config" in flags.FLAGS and flags.FLAGS["config"].value is not None:
      # A config file that cannot be read raises on the first look into it.
      getattr(flags.FLAGS["config"].value, "size", None)
    return left
  except (flags.Error, OSError, KeyError, TypeError, ValueError) as error:
    mistake = errors.UserError(_explain(error))
    mistake.__cause__ = error
    sys.exit(experiment.report_user_error(mistake))


def _explain(error: Exception) -> str:
  """Returns the line for a flag mistake."""
  if isinstance(error, OSError):
    name = config_flags.get_config_filename(flags.FLAGS["config"])
    return (
      f"got --config={name}, expected a config file that exists; check the path"
    )
  text = str(error.args[0]) if isinstance(error, KeyError) else str(error)
  if "Traceback" in text:  # a config file that raised: its last line says why
    text = text.strip().splitlines()[-1].split(": ", 1)[-1]
  return f"{text.rstrip('. ')}; see --help for the flags and fields"
