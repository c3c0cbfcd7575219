"""Parameters with one wave and with two, for each surrogate.

Our own sweeps found them: the paper shows that there are such choices, but the
values it used were not available. Counts of waves hold for a prominence from
0.001 to 0.004 of the people.
"""

import dataclasses
from typing import NamedTuple

from research.systems.epicast.surrogates import model
from research.systems.epicast.surrogates.parameters import Parameters


class Example(NamedTuple):
  """Two choices that differ in one parameter, over 360 days.

  Attributes:
    model: the surrogate.
    base: what both share.
    varied: the parameter that differs.
    one: its value with one wave.
    two: its value with two waves.
  """

  model: model.Model
  base: Parameters
  varied: str
  one: float
  two: float

  def parameters(self, waves: int) -> Parameters:
    """Returns the choice with one or two waves.

    Example:
      >>> EXAMPLES["SIR×NF"].parameters(waves=2).rho_f
      0.05
    """
    value = {1: self.one, 2: self.two}[waves]
    return dataclasses.replace(self.base, **{self.varied: value})


# Fear begins with the recovered, spreads, and fades among the recovered.
_SIR = Example(
  model=model.SIR,
  base=Parameters(
    beta=0.43,
    infectious_days=9.0,
    phi_ff=0.67,
    gamma_f=0.025,
    gamma_r=0.87,
    sigma_f=0.15,
  ),
  varied="rho_f",
  one=0.001,
  two=0.05,
)
# In the others it comes from the sick, and fades by itself in some 100 days.
_SIIRR = Example(
  model=model.SIIRR,
  base=Parameters(
    beta=0.9, infectious_days=5.0, phi_sf=1.6, gamma_f=0.01, rho_f=0.25
  ),
  varied="sigma_f",
  one=0.35,
  two=0.1,
)
_SEPIIRR = Example(
  model=model.SEPIIRR,
  base=Parameters(beta=0.75, infectious_days=5.0, phi_sf=2.5, gamma_f=0.009),
  varied="sigma_f",
  one=0.35,
  two=0.05,
)
EXAMPLES = {one.model.name: one for one in (_SIR, _SIIRR, _SEPIIRR)}
