"""The experiment's settings; sizes are in `configs/`."""

import dataclasses

from experiments import policies
from research.runs import config, errors
from research.systems.sift_attention.policies import control, law

_PARETO = (
  "power_law:level=0.5,warmup=64",
  "power_law:level=0.75,warmup=64",
  "power_law:level=0.875,warmup=64",
  "fixed_beta:level=0.5",
  "fixed_beta:level=0.75",
  "fixed_beta:level=0.75,target=0.25",
  "quantile:level=0.5",
  "quantile:level=0.75",
  "quantile:level=0.875",
  "top_mass:mass=0.8",
  "top_mass:mass=0.95",
  "relative_to_max:scale=0.5",
  "relative_to_max:scale=2",
  "relative_to_max:scale=8",
  "streaming_llm:share=0.5",
  "streaming_llm:share=0.25",
)


@dataclasses.dataclass(kw_only=True)
class Quality:
  """Settings of the quality study.

  Attributes:
    windows: windows of each text.
    window_size: tokens a window holds.
    exact_steps: first steps of a window that are exact under every policy and
      do not count; the longest warm-up at least.
    policies: settings compared, beside exact attention, named as
      `experiments.policies` reads them.
    paper_policy: the setting that stands for the paper in single numbers; names
      its warm-up.
    best_policy: the setting that single numbers of retrieval take beside it.
    controlled_policy: the setting whose budget is checked.
    raw: settings that are measured without dividing by the kept mass too.
    few_windows: of each text, for what follows.
    warmups: lengths of the paper's warm-up that are compared.
    prompts: lengths of a prompt before the paper's warm-up.
    retrieval_lengths: tokens of a synthetic retrieval prompt.
    retrieval_prompts: prompts of each length.
  """

  windows: int = 20
  window_size: int = 768
  exact_steps: int = 128
  policies: tuple[str, ...] = _PARETO
  paper_policy: str = "power_law:level=0.875,warmup=64"
  best_policy: str = "relative_to_max:scale=2"
  controlled_policy: str = "fixed_beta:level=0.75,target=0.25"
  raw: tuple[str, ...] = ("power_law:level=0.875,warmup=64",)
  few_windows: int = 2
  warmups: tuple[int, ...] = (16, 32, 64, 128, 256)
  prompts: tuple[int, ...] = (256, 512)
  retrieval_lengths: tuple[int, ...] = (512, 1024, 2048)
  retrieval_prompts: int = 4

  def target(self, name: str) -> float:
    """Returns the share of a row that a setting means each head to keep."""
    policy = policies.parse(name).policy
    if isinstance(policy, control.Controlled):
      return policy.target
    if isinstance(policy, law.PowerLaw):
      return 1 - policy.level
    raise errors.UserError(
      f"quality: got {name!r}, expected a power law or a target; it means no "
      "share of a row to be kept"
    )

  def check(self) -> None:
    """Raises a UserError unless the fields fit together."""
    for name in self.policies:
      policies.parse(name)
    for name in (self.paper_policy, *self.raw):
      if name not in self.policies:
        raise errors.UserError(
          f"quality: got {name!r}, expected one of policies={self.policies}"
        )
    if "warmup=" not in self.paper_policy:
      raise errors.UserError(
        f"quality.paper_policy: got {self.paper_policy!r}, expected a power "
        "law that names its warm-up; add warmup=64"
      )
    first = max((self.exact_steps, *self.warmups))
    last = max(self.prompts, default=0) + self.exact_steps
    if max(first, last) >= self.window_size:
      raise errors.UserError(
        f"quality.window_size: got {self.window_size}, expected more than the "
        f"{max(first, last)} exact steps; widen it"
      )


@dataclasses.dataclass(kw_only=True)
class Config(config.ExperimentConfig):
  """Settings of the power-law study, and of the quality study beside it.

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
    quality: settings of the quality study.
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
  quality: Quality = dataclasses.field(default_factory=Quality)

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
    self.quality.check()
