"""Fear: who is afraid, of whom they caught it, and how it fades."""

import dataclasses
from collections.abc import Mapping, Sequence

from research.runs import errors
from research.systems.epicast import behaviours as behaviours_lib
from research.systems.epicast import disease
from research.systems.epicast.broadcaster import Broadcaster

Number = float | int
# Contacts of adults relative to those in a household; no published values.
WEIGHTS = {
  "household": 1.0,
  "cluster": 0.25,
  "neighbourhood": 1e-3,
  "community": 2.5e-4,
  "work": 0.3,
  "class": 0.3,
  "school": 0.0,
  "day_neighbourhood": 1e-3,
  "day_community": 2.5e-4,
}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Fear:
  r"""How people become fearful, and neutral again.

  In half a day a neutral agent becomes fearful with chance `1 - exp(-h)`,

  $$h = \sum_c w_c s_c (\phi_{ff} n^F_c + \phi_{sf} n^{sym}_c)
    + \phi_{self} [\text{got symptoms}]
    - \log(1 - \rho_f) [\text{recovered from symptoms}] + m b / 2$$

  where the counts are of other agents who are there (who has withdrawn from a
  context neither frightens there nor is frightened; masks and distance change
  nothing), `s_c` are the policies' scales, `b` is the hazard per day of the
  broadcasters and `m` the agent's susceptibility to them. A fearful one becomes
  neutral with hazard `gamma_f / 2 + gamma_r * sum(w_c s_c n^R_c)`.

  Attributes:
    phi_ff: hazard per half-day and fearful contact.
    phi_sf: hazard per half-day and contact with symptoms (Is).
    phi_self: hazard of getting symptoms oneself, once.
    rho_f: chance to become fearful on recovering from symptoms (Is to Rs).
    gamma_f: hazard per day that fear fades.
    gamma_r: hazard per half-day and recovered contact (Rs, Ra) that it does.
    weights: w_c by context; contexts left out count nothing.
    media_spread: susceptibility to broadcasters is uniform in 1 - this to 1 +
      this, in steps of 1/64.
    initial: share of people who are fearful at the start.
    broadcasters: sources without contact; their hazards add up.
    behaviours: what the fearful do, at most `behaviours.MOST`.

  Raises:
    UserError: a number is out of range, or a name is not known.

  References:
    Kitson et al., arXiv 2506.07842, for the terms; their form is ours.

  Example:
    >>> Fear(phi_ff=0.02, gamma_f=1 / 40).phi_sf
    0.0
  """

  phi_ff: Number = 0.0
  phi_sf: Number = 0.0
  phi_self: Number = 0.0
  rho_f: Number = 0.0
  gamma_f: Number = 0.0
  gamma_r: Number = 0.0
  weights: Mapping[str, Number] = dataclasses.field(
    default_factory=lambda: dict(WEIGHTS)
  )
  media_spread: Number = 0.0
  initial: Number = 0.0
  broadcasters: Sequence[Broadcaster] = ()
  behaviours: Sequence[behaviours_lib.Behaviour] = ()

  def __post_init__(self):
    for name in ("rho_f", "media_spread", "initial"):
      disease.require_chance(f"fear: {name}", getattr(self, name))
    for name in ("phi_ff", "phi_sf", "phi_self", "gamma_f", "gamma_r"):
      _require_rate(name, getattr(self, name))
    for context, weight in self.weights.items():
      disease.contexts(context)
      _require_rate(f"weight of {context}", weight)
    names = [behaviour.name for behaviour in self.behaviours]
    if len(names) > behaviours_lib.MOST or len(set(names)) < len(names):
      raise errors.UserError(
        f"fear: got behaviours {names}; expected at most "
        f"{behaviours_lib.MOST}, each with its own name"
      )


def _require_rate(name: str, value: Number) -> None:
  if not 0 <= value < float("inf"):
    raise errors.UserError(f"fear: {name}: got {value}; expected zero or more")
