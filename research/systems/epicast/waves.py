"""What counts as a wave, in runs of agents and of surrogates alike."""

import dataclasses
from typing import Literal, NamedTuple

import numpy as np
from jaxtyping import Float, Int, Shaped
from scipy import ndimage, signal

from research.runs import errors
from research.systems.epicast.disease import Stage

Curve = Literal["infectious", "symptomatic", "new_infections", "new_symptoms"]
_NOW = {
  "infectious": (Stage.P, Stage.IS, Stage.IA),
  "symptomatic": (Stage.IS,),
}
_ARRIVED = {
  "new_infections": tuple(s for s in Stage if Stage.S < s < Stage.ABSENT),
  "new_symptoms": (Stage.IS, Stage.RS),
}


class Waves(NamedTuple):
  """The waves of one run.

  Attributes:
    days: of their peaks, in days of the curve.
    heights: of the smoothed peaks, shares of people.
    prominences: heights over the higher of the two lows on both sides.
  """

  days: np.ndarray
  heights: np.ndarray
  prominences: np.ndarray


@dataclasses.dataclass(frozen=True, kw_only=True)
class Rule:
  """A wave is a peak of the smoothed curve that stands out.

  The curve is averaged over windows that are whole and centred. A peak counts
  if its prominence (how far one must go down from it, on either side, before
  the curve is higher, or ends) is at least `prominence`, and at least `noise`
  times √(height / people): a curve of few people is never smooth. Of equal
  peaks the first is taken to be higher. A curve that only falls, or that still
  rises when it ends, has no peak there.

  Attributes:
    window: of the average, an odd number of days.
    prominence: a share of people; for new infections or symptoms, a day.
    noise: in standard deviations of a count as large as the peak. Averaged
      counts of new infections or symptoms vary less: for them it is strict.
  """

  window: int = 7
  prominence: float = 0.002
  noise: float | int = 3

  def __post_init__(self):
    if self.window < 1 or self.window % 2 == 0:
      raise errors.UserError(
        f"window: got {self.window}; expected an odd number of days"
      )
    if not (self.prominence > 0 and self.noise >= 0):
      raise errors.UserError(
        f"got a prominence of {self.prominence} and noise of {self.noise}; "
        "expected a share above 0, and 0 or more"
      )


RULE = Rule()
_TIE = 1e-9  # relative: no two days are that close unless they are equal


def curve(
  counts: Shaped[np.ndarray, "*batch times stages"], kind: Curve
) -> Float[np.ndarray, "*batch days"]:
  """Takes a daily curve from what stages people are in.

  Args:
    counts: people, or shares of them, in each `disease.Stage`, a row a day.
    kind: `infectious` (in P, Is or Ia) or `symptomatic` (in Is), each day;
      `new_infections` or `new_symptoms`, between each day and the next.

  Returns:
    Shares of people.

  Example:
    >>> counts = np.array([[9, 1, 0, 0, 0, 0, 0], [7, 2, 0, 1, 0, 0, 0]])
    >>> curve(counts, "infectious").tolist()
    [0.0, 0.1]
    >>> curve(counts, "new_infections").round(3).tolist()
    [0.2]
  """
  people = counts[..., :1, : Stage.ABSENT].sum(-1)
  return tally(counts, kind) / people


def tally(
  counts: Shaped[np.ndarray, "*batch times stages"], kind: Curve
) -> Shaped[np.ndarray, "*batch days"]:
  """Counts people, as `curve` but not as shares: linear in the counts."""
  stages = _NOW[kind] if kind in _NOW else _ARRIVED[kind]
  number = counts[..., list(stages)].sum(-1)
  return number if kind in _NOW else np.diff(number)


def find(
  curve: Float[np.ndarray, " days"],
  *,
  people: int | None = None,
  rule: Rule = RULE,
) -> Waves:
  """Finds the waves of a curve.

  Args:
    curve: shares of people, a day each.
    people: how many there are; None if the curve has no noise.
    rule: what counts.

  Raises:
    UserError: the curve is no longer than the window, or not finite.

  References:
    `scipy.signal.find_peaks`.

  Example:
    >>> days = np.arange(200)
    >>> hill = lambda day: 0.05 * np.exp(-(((days - day) / 12) ** 2))
    >>> find(hill(50) + hill(140)).days.tolist()
    [50, 140]
  """
  if len(curve) <= rule.window or not np.isfinite(curve).all():
    raise errors.UserError(
      f"got a curve of {len(curve)} days; expected more than the window of "
      f"{rule.window}, and finite values"
    )
  half = rule.window // 2
  smooth = ndimage.uniform_filter1d(curve.astype(float), rule.window)
  smooth = smooth[half : len(curve) - half]
  # Of two peaks of equal height the second stands out over the low between.
  ramp = 1 - _TIE * np.arange(len(smooth))
  days, found = signal.find_peaks(smooth * ramp, prominence=rule.prominence)
  prominences, heights = found["prominences"], smooth[days]
  if people is not None:
    keep = prominences >= rule.noise * np.sqrt(heights / people)
    days, heights, prominences = days[keep], heights[keep], prominences[keep]
  return Waves(days + half, heights, prominences)


def count(
  curves: Float[np.ndarray, "*batch days"],
  *,
  people: int | None = None,
  rule: Rule = RULE,
) -> Int[np.ndarray, "*batch"]:
  """Counts the waves of many curves, as `find`."""
  flat = curves.reshape(-1, curves.shape[-1])
  found = [len(find(row, people=people, rule=rule).days) for row in flat]
  return np.array(found, int).reshape(curves.shape[:-1])
