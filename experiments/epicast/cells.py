"""A cell of the grid: how fear spreads, how long it lasts, what it does."""

from typing import NamedTuple

from research.systems.epicast.behaviours import Behaviour
from research.systems.epicast.broadcaster import Broadcaster
from research.systems.epicast.fear import Fear

#: How fear spreads: whether by contact, and whether by broadcasters.
SETTINGS = {
  "local": (True, False),
  "broadcaster": (False, True),
  "both": (True, True),
}
CALM = "calm"  # the runs without fear


class Cell(NamedTuple):
  """One set of parameters.

  Attributes:
    setting: of `SETTINGS`.
    cut: share of contacts outside the household that the fearful avoid.
    fading_days: 1 / gamma_f.
    phi_ff: hazard per half-day and fearful contact.
    phi_sf: hazard per half-day and contact with symptoms.
    strength: of the broadcaster, per day and share of new symptoms.
    lag: of the broadcaster, days.
  """

  setting: str
  cut: float
  fading_days: float
  phi_ff: float
  phi_sf: float
  strength: float
  lag: int

  @property
  def name(self) -> str:
    """A name for its units.

    Example:
      >>> Cell("broadcaster", 0.9, 45, 0, 0, 100, 1).name
      'broadcaster.cut-0.9.fades-45.ff-0.sf-0.strength-100.lag-1'
    """
    return (
      f"{self.setting}.cut-{self.cut:g}.fades-{self.fading_days:g}"
      f".ff-{self.phi_ff:g}.sf-{self.phi_sf:g}.strength-{self.strength:g}"
      f".lag-{self.lag}"
    )

  def fear(self) -> Fear:
    """Returns what the simulator takes.

    The broadcaster reports new symptoms, averaged over a week, to everybody.
    """
    heard = self.strength > 0
    source = Broadcaster(strength=self.strength, lag=self.lag)
    careful = Behaviour(name="fewer contacts", distance={"all": 1 - self.cut})
    return Fear(
      phi_ff=self.phi_ff,
      phi_sf=self.phi_sf,
      gamma_f=1 / self.fading_days,
      broadcasters=(source,) * heard,
      behaviours=(careful,),
    )
