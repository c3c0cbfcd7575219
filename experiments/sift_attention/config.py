"""The experiment's settings; sizes are in `configs/`."""

import dataclasses

from research.runs import config, errors


@dataclasses.dataclass(kw_only=True)
class Config(config.ExperimentConfig):
  """Settings of the power-law study.

  Attributes:
    model: a name that `experiments.models` knows.
    texts: names of public-domain texts.
    windows: windows of each text.
    window_size: tokens a window holds.
    levels: quantile levels of the attention scores, ascending.
    headline_level: the level that single numbers are given at.
    rows: generation steps measured in a window, log-spaced.
    first_step: smallest step that goodness of fit is judged on; with fewer
      keys a quantile is one of a handful of scores.
    warmups: lengths of the warm-up from which the window's second half is
      extrapolated.
    headline_warmup: the warm-up that single numbers are given at.
  """

  model: str = "smollm2-135m"
  texts: tuple[str, ...] = (
    "britannica/shakespeare",
    "shakespeare/hamlet",
    "milton/paradise_lost",
  )
  windows: int = 3
  window_size: int = 1024
  levels: tuple[float, ...] = (0.5, 0.75, 0.875, 0.9375)
  headline_level: float = 0.875
  rows: int = 128
  first_step: int = 16
  warmups: tuple[int, ...] = (16, 32, 64, 128, 256)
  headline_warmup: int = 64

  def check(self) -> None:
    """Raises a UserError unless the fields fit together."""
    for name, options in (("level", "levels"), ("warmup", "warmups")):
      value = getattr(self, f"headline_{name}")
      if value not in getattr(self, options):
        raise errors.UserError(
          f"headline_{name}: got {value}, expected one of {options}="
          f"{getattr(self, options)}"
        )
    if 2 * max(self.warmups) > self.window_size:
      raise errors.UserError(
        f"warmups: got {max(self.warmups)}, expected at most half of "
        f"window_size={self.window_size}; shorten it or widen the window"
      )
