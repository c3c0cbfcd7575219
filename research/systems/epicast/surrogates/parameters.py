"""What a surrogate model depends on: one class for all of them."""

import dataclasses
from collections.abc import Mapping, Sequence

import equinox as eqx
import jax
import numpy as np
from jaxtyping import Array, ArrayLike, Float

from research.runs import errors

Values = Mapping[str, ArrayLike | Sequence[float | int]]


class Parameters(eqx.Module):
  """Rates and shares of a surrogate, a pytree; by default nobody is afraid.

  A model reads what concerns its stages and ignores the rest. People are
  counted as shares of the population.

  Attributes:
    beta: infections a day by one symptomatic neutral person among susceptible
      neutral ones.
    latent_days: mean length of E, days.
    presymptomatic_days: mean length of P, days.
    infectious_days: mean length of Is and Ia, days.
    p_asymptomatic: chance of Ia rather than Is.
    rel_trans_presymptomatic: what P passes on relative to Is (κ_P).
    rel_trans_asymptomatic: what Ia passes on relative to Is (κ_a).
    phi_ff: neutral people become fearful at this rate, a day, times the share
      of fearful ones.
    phi_sf: the same, times the share of symptomatic ones.
    rho_f: chance that a neutral person who recovers from a symptomatic
      infection is fearful from then on.
    gamma_f: fear fades at this rate, a day.
    gamma_r: and at this one times the share of recovered people.
    sigma_f: susceptibility of fearful people relative to neutral ones.
    tau_f: infectiousness of fearful people relative to neutral ones.
    phi_b: neutral people become fearful at this rate, a day, times the
      broadcaster's signal: a share of people, or of people a day.
    threshold: signal at which the broadcaster speaks at half its strength;
      with 0 it always speaks.
    sharpness: how sudden that is: the exponent of a Hill function.
    lag_days: mean delay of the broadcaster, days.
    infected: share of people who are infected at the start.
    fearful: share of the others who are fearful at the start.

  Raises:
    UserError: a value is out of range. Values that JAX traces are not checked.

  Example:
    >>> Parameters(beta=0.4).sigma_f
    1.0
  """

  beta: ArrayLike
  latent_days: ArrayLike = 3.81
  presymptomatic_days: ArrayLike = 1.0
  infectious_days: ArrayLike = 5.6
  p_asymptomatic: ArrayLike = 0.4
  rel_trans_presymptomatic: ArrayLike = 0.75
  rel_trans_asymptomatic: ArrayLike = 0.75
  phi_ff: ArrayLike = 0.0
  phi_sf: ArrayLike = 0.0
  rho_f: ArrayLike = 0.0
  gamma_f: ArrayLike = 0.0
  gamma_r: ArrayLike = 0.0
  sigma_f: ArrayLike = 1.0
  tau_f: ArrayLike = 1.0
  phi_b: ArrayLike = 0.0
  threshold: ArrayLike = 0.0
  sharpness: ArrayLike = 4.0
  lag_days: ArrayLike = 7.0
  infected: ArrayLike = 1e-4
  fearful: ArrayLike = 0.0

  def __check_init__(self):
    for name in NAMES:
      value = getattr(self, name)
      if not isinstance(value, jax.core.Tracer):
        _require(name, np.asarray(value))

  @classmethod
  def of(cls, row: Float[Array, " parameters"]) -> "Parameters":
    """Takes the values in the order of `NAMES`."""
    return cls(*row)


NAMES = tuple(field.name for field in dataclasses.fields(Parameters))
_DAYS = ("latent_days", "presymptomatic_days", "infectious_days", "lag_days")
_SHARES = ("p_asymptomatic", "rho_f", "infected", "fearful")


def _require(name: str, value: np.ndarray) -> None:
  low, high, meant = 0.0, np.inf, "0 or more"
  if name in _DAYS:
    low, meant = np.nextafter(0.0, 1.0), "days above 0; to leave a stage out, "
    meant += "take a model without it"
  elif name in _SHARES:
    high, meant = 1.0, "a share from 0 to 1"
  elif name == "sharpness":
    low, high, meant = 1.0, 8.0, "from 1 to 8"
  bad = ~((value >= low) & (value <= high) & np.isfinite(value))
  if bad.any():
    raise errors.UserError(
      f"{name}: got {value[bad].flat[0]:g}; expected {meant}"
    )


def rows(
  parameters: Parameters, changes: Values
) -> Float[np.ndarray, "lanes parameters"]:
  """Writes out many sets of parameters, a row each.

  Args:
    parameters: what all of them share, single numbers.
    changes: by name, what differs: lists of one length, or single numbers.

  Raises:
    UserError: an unknown name, lists of different lengths, a value out of
      range.

  Example:
    >>> rows(Parameters(beta=0.4), {"sigma_f": [0.1, 0.2]}).shape
    (2, 20)
  """
  for name in changes:
    index(name)
  try:
    values = np.broadcast_arrays(
      *(np.atleast_1d(np.asarray(v, float)) for v in changes.values())
    )
  except ValueError:
    lengths = {name: np.size(v) for name, v in changes.items()}
    raise errors.UserError(
      f"got changes of lengths {lengths}; expected one length"
    ) from None
  lanes = len(values[0]) if values else 1
  table = np.empty((lanes, len(NAMES)))
  for column, name in enumerate(NAMES):
    table[:, column] = np.asarray(getattr(parameters, name))
  for name, value in zip(changes, values, strict=True):
    _require(name, value)
    table[:, index(name)] = value
  return table


def index(name: str) -> int:
  """Where a parameter stands in a row.

  Raises:
    UserError: there is none of this name.
  """
  if name not in NAMES:
    raise errors.UserError(
      f"got parameter {name!r}; expected one of {', '.join(NAMES)}"
    )
  return NAMES.index(name)
