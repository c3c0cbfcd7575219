"""Names of policies: what they make, and what is said of a wrong one."""

import pytest

from experiments import policies
from research.runs import errors
from research.systems.sift_attention import selection
from research.systems.sift_attention.policies import (
  certified,
  control,
  law,
  rules,
)

_NEWEST = selection.Always()


@pytest.mark.parametrize(
  ("text", "policy", "always"),
  [
    ("dense", rules.Dense(), _NEWEST),
    ("power_law", law.PowerLaw(), _NEWEST),
    (
      "power_law:level=0.5,warmup=16,most_beta=2",
      law.PowerLaw(0.5, 16, most_beta=2.0),
      _NEWEST,
    ),
    ("fixed_beta:warmup=40", law.fixed_beta(warmup=40), _NEWEST),
    (
      "relative_to_max: scale=4, newest=8",
      rules.RelativeToMax(4.0),
      selection.Always(newest=8),
    ),
    ("top_mass:mass=0.9", rules.TopMass(0.9), _NEWEST),
    ("top_k:k=32", rules.TopK(32), _NEWEST),
    (
      "streaming_llm:share=0.25",
      rules.PositionOnly(),
      selection.Always(sinks=4, share=0.25),
    ),
    (
      "fixed_beta:target=0.25,gain=1",
      control.Controlled(law.fixed_beta(), 0.25, 1.0),
      _NEWEST,
    ),
    (
      "quantile:target=0.2,least_mass=0.9,sinks=4",
      certified.Certified(control.Controlled(rules.Quantile(), 0.2), 0.9),
      selection.Always(sinks=4),
    ),
  ],
)
def test_names_make_objects(text, policy, always):
  assert policies.parse(text) == policies.Choice(policy, always)


@pytest.mark.parametrize(
  ("text", "message"),
  [
    ("", "unknown policy: got '', expected one of dense, power_law"),
    ("topmass", "did you mean top_mass?"),
    ("quantile:levl=0.5", "got 'levl', expected one of level, sinks, newest"),
    ("quantile:levl=0.5", "did you mean level?"),
    ("power_law:warmup=2.5", "got '2.5', expected a whole number"),
    ("quantile:level=half", "got 'half', expected a number"),
    ("quantile:level", "option level of the policy quantile: got ''"),
    ("top_k", "policy 'top_k': k is missing, expected k=NUMBER"),
    ("quantile:target=0.2,gain=-1", "gain must be positive, got -1.0"),
    ("relative_to_max:scale=nan", "scale must be positive, got nan"),
    ("quantile:gain=1", "target is missing, expected target=NUMBER"),
    ("top_mass:mass=2", "mass must lie between 0 and 1, got 2.0"),
    ("dense:share=2", "share lie in [0, 1], got 0, 1 and 2.0"),
    ("quantile:level=0.5,level=0.7", "option level is given twice"),
  ],
)
def test_wrong_ones_have_one_line(text, message):
  with pytest.raises(errors.UserError) as error:
    policies.parse(text)
  assert message in str(error.value)
  assert "\n" not in str(error.value)
