"""From per-window measurements to curves that policies are compared on.

Policies are compared at equal value rows, read after the union over the heads
of a group, never at equal nominal settings: each policy is a curve through its
settings, and curves are read where they overlap and nowhere else.
"""

import dataclasses

import numpy as np
from jaxtyping import Float

_DRAWS = 2000
_TAIL = 0.025


@dataclasses.dataclass(frozen=True, kw_only=True)
class Measured:
  """One policy's setting on every window, counted after the warm-up.

  Attributes:
    nll: mean nats a token of each window, `[window]`.
    dense: the same of exact attention, over the same tokens.
    kept: share of the scores that each head keeps, `[window, layer, head]`.
    rows: share of the value rows read after the union over each group, if rows
      are skipped by blocks of so many, `{block: [window]}`.
    mass: probability kept, `[window, layer, head]`.
  """

  nll: np.ndarray
  dense: np.ndarray
  kept: np.ndarray
  rows: dict[int, np.ndarray]
  mass: np.ndarray

  @property
  def penalty(self) -> np.ndarray:
    """What exact attention would save, in nats a token, `[window]`."""
    return self.nll - self.dense


@dataclasses.dataclass(frozen=True, kw_only=True)
class Quality:
  """What the quality study found.

  Attributes:
    texts: each window's text.
    policies: settings on all windows, by name.
    raw: some of them again, not renormalised.
    warmups: the paper's policy by length of its warm-up, on fewer windows, all
      counted after the longest.
    prompts: the paper's policy after a prompt: `(prompt, "literal")` learns
      from the first rows after it, `(prompt, "prompt")` from rows of it.
    retrieval: share of answer tokens that are dense attention's, and nats a
      token of the right answer, by policy and prompt length (synthetic).
  """

  texts: list[str]
  policies: dict[str, Measured]
  raw: dict[str, Measured]
  warmups: dict[int, Measured]
  prompts: dict[tuple[int, str], Measured]
  retrieval: dict[str, dict[int, tuple[float, float]]]


def family(name: str) -> str:
  """Returns what a policy's settings have in common.

  Example:
    >>> family("power_law:level=0.75,warmup=64")
    'power_law'
    >>> family("fixed_beta:level=0.75,target=0.25")
    'fixed_beta, controlled'
  """
  kind, _, settings = name.partition(":")
  return f"{kind}, controlled" if "target=" in settings else kind


def draws(texts: list[str], seed: int) -> Float[np.ndarray, "draws window"]:
  """Weights of a paired bootstrap over windows, each text apart.

  Where a text has a single window, all windows are one pool: alone it would
  never change, and an interval would have no width.

  Args:
    texts: each window's text.
    seed: of the draws.

  Returns:
    Rows of weights that sum to 1; the first is the plain mean, so that a
    number and its interval are computed by the same code.
  """
  generator = np.random.default_rng(seed)
  weights = np.zeros((_DRAWS + 1, len(texts)))
  weights[0] = 1
  if min(texts.count(name) for name in texts) < 2:
    texts = ["any"] * len(texts)
  for name in dict.fromkeys(texts):
    members = np.flatnonzero([text == name for text in texts])
    picks = generator.choice(members, (_DRAWS, len(members)))
    np.add.at(weights[1:], (np.arange(_DRAWS)[:, None], picks), 1)
  return weights / len(texts)


def interval(values: Float[np.ndarray, " draws"]) -> tuple[float, float] | None:
  """The 95 % interval of a number whose first draw is the number itself.

  Returns:
    Lower and upper end, or None if a tenth of the draws have no value.
  """
  finite = values[np.isfinite(values)]
  if len(finite) < 0.9 * len(values):
    return None
  low, high = np.quantile(finite, [_TAIL, 1 - _TAIL])
  return float(min(low, values[0])), float(max(high, values[0]))


@dataclasses.dataclass(frozen=True)
class Curve:
  """A family of settings, by ascending value rows; leading axis: draws.

  Attributes:
    names: the settings.
    rows: share of the value rows read.
    penalty: nats a token above exact attention.
  """

  names: list[str]
  rows: np.ndarray
  penalty: np.ndarray

  def penalty_at(self, rows: Float[np.ndarray, " draws"]) -> np.ndarray:
    """Interpolates in log rows; NaN where the curve does not reach."""
    order = np.argsort(self.rows, axis=-1)  # a draw may swap close settings
    xs, ys = (
      np.take_along_axis(a, order, -1) for a in (self.rows, self.penalty)
    )
    return np.array(
      [
        np.interp(np.log(at), np.log(x), y, left=np.nan, right=np.nan)
        for at, x, y in zip(rows, xs, ys, strict=True)
      ]
    )

  def rows_at(self, penalty: float) -> np.ndarray:
    """Fewest rows down to which the curve stays within a penalty.

    Returns:
      Of each draw; the least rows measured where even they are within it, and
      NaN where the most rows measured are not.
    """
    found = [
      _crossing(x, y, penalty)
      for x, y in zip(self.rows, self.penalty, strict=True)
    ]
    return np.array(found)


def curves(
  policies: dict[str, Measured], weights: Float[np.ndarray, "draws window"]
) -> dict[str, Curve]:
  """Joins the settings of each family.

  Args:
    policies: settings by name.
    weights: as `draws` gives them.

  Returns:
    Curves by family; exact attention is none.
  """
  groups: dict[str, list[str]] = {}
  for name in policies:
    if name != "dense":
      groups.setdefault(family(name), []).append(name)
  found = {}
  for key, names in groups.items():
    names.sort(key=lambda name: policies[name].rows[1].mean())
    stack = lambda pick, names=names: np.stack(
      [weights @ pick(policies[name]) for name in names], axis=-1
    )
    found[key] = Curve(
      names, stack(lambda m: m.rows[1]), stack(lambda m: m.penalty)
    )
  return found


def _crossing(rows: np.ndarray, penalty: np.ndarray, limit: float) -> float:
  """Walks a curve from its most rows down to where it leaves the limit."""
  order = np.argsort(rows)[::-1]
  rows, penalty = rows[order], penalty[order]
  outside = np.flatnonzero(penalty > limit)
  if not len(outside):
    return float(rows[-1])
  first = outside[0]
  if first == 0:
    return float("nan")
  x, y = np.log(rows[first - 1 : first + 1]), penalty[first - 1 : first + 1]
  return float(np.exp(np.interp(limit, y, x)))
