"""Solves surrogates, many at a time, and their derivatives."""

import functools
from collections.abc import Sequence

import diffrax
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from research.runs import errors
from research.systems.epicast.surrogates import parameters as params
from research.systems.epicast.surrogates.model import Model

LANES = 256  # solved together; bounds memory, and fixes a compiled shape
_MAX_STEPS = 20_000
_ABSOLUTE = 1e-4  # tolerance of shares near zero, relative to the relative one


def solve(
  model: Model,
  parameters: params.Parameters,
  *,
  days: int = 360,
  rtol: float | None = None,
  stiff: bool = False,
) -> Float[np.ndarray, "times states"]:
  """Solves a model, saved at the start and after each day.

  In float64 within `jax.enable_x64(True)`, otherwise in float32.

  Args:
    model: what to solve.
    parameters: single numbers.
    days: how long.
    rtol: tolerance of a step relative to a state; by default 1e-9 in float64,
      1e-5 in float32.
    stiff: solve with Kvaerno5 (implicit) instead of Tsit5, for stages of
      minutes beside others of weeks.

  Returns:
    Shares, columns as in `model.states`.

  Raises:
    UserError: the solver gave up.

  Example:
    >>> from research.systems.epicast.surrogates.model import SIR
    >>> found = solve(SIR, params.Parameters(beta=0.4, infected=0.01), days=7)
    >>> found.shape, bool((np.diff(found[:, 0]) < 0).all())
    ((8, 6), True)
  """
  return batch(model, parameters, {}, days=days, rtol=rtol, stiff=stiff)[0]


def batch(
  model: Model,
  parameters: params.Parameters,
  changes: params.Values,
  *,
  days: int = 360,
  rtol: float | None = None,
  stiff: bool = False,
) -> Float[np.ndarray, "lanes times states"]:
  """Solves a model for many parameters, at most 256 of them at a time.

  Args:
    model: what to solve.
    parameters: what all share.
    changes: by name, what differs: lists of one length.
    days: how long.
    rtol: as of `solve`.
    stiff: as of `solve`.

  Returns:
    Shares, by set of parameters.

  Raises:
    UserError: of `parameters.rows`, or the solver gave up.
  """
  rows = params.rows(parameters, changes)
  parts = []
  for first in range(0, len(rows), LANES):
    part = rows[first : first + LANES]
    fill = -len(part) % LANES if len(rows) > 1 else 0
    full = np.pad(part, ((0, fill), (0, 0)), mode="edge")
    found = _lanes(model, days, stiff, jnp.asarray(full), _tolerance(rtol))
    parts.append(np.asarray(found)[: len(part)])
  states = np.concatenate(parts)
  _require_solved(states, rows)
  return states


def tangents(
  model: Model,
  parameters: params.Parameters,
  names: Sequence[str],
  *,
  days: int = 360,
  rtol: float | None = None,
) -> tuple[
  Float[np.ndarray, "times states"], Float[np.ndarray, "times states names"]
]:
  """Solves a model, and differentiates it by some parameters.

  Derivatives go forward through the solver's own steps.

  Args:
    model: what to solve.
    parameters: where.
    names: of the parameters.
    days: how long.
    rtol: as of `solve`.

  Returns:
    Shares, and their derivatives.

  Raises:
    UserError: an unknown name, or the solver gave up.
  """
  rows = params.rows(parameters, {})
  directions = np.eye(len(params.NAMES))[[params.index(n) for n in names]]
  states, slopes = _tangents(
    model, days, jnp.asarray(rows[0]), jnp.asarray(directions), _tolerance(rtol)
  )
  _require_solved(np.asarray(states)[None], rows)
  return np.asarray(states), np.moveaxis(np.asarray(slopes), 0, -1)


@functools.partial(jax.jit, static_argnums=(0, 1, 2))
def _lanes(
  model: Model, days: int, stiff: bool, rows: Array, rtol: Array
) -> Array:
  return jax.vmap(lambda row: _one(model, days, stiff, row, rtol))(rows)


@functools.partial(jax.jit, static_argnums=(0, 1))
def _tangents(
  model: Model, days: int, row: Array, directions: Array, rtol: Array
) -> tuple[Array, Array]:
  states, push = jax.linearize(
    lambda row: _one(model, days, False, row, rtol), row
  )
  return states, jax.vmap(push)(directions)


def _one(
  model: Model, days: int, stiff: bool, row: Array, rtol: Array
) -> Float[Array, "times states"]:
  parameters = params.Parameters.of(row)
  found = diffrax.diffeqsolve(
    diffrax.ODETerm(model.field),
    diffrax.Kvaerno5() if stiff else diffrax.Tsit5(),
    t0=0.0,
    t1=float(days),
    dt0=None,
    y0=model.initial(parameters),
    args=parameters,
    saveat=diffrax.SaveAt(ts=jnp.arange(days + 1.0)),
    stepsize_controller=diffrax.PIDController(rtol, rtol * _ABSOLUTE),
    adjoint=diffrax.ForwardMode(),  # few parameters, many days
    max_steps=_MAX_STEPS,
    throw=False,
  )
  solved = found.result == diffrax.RESULTS.successful
  return jnp.where(solved, found.ys, jnp.nan)


def _tolerance(rtol: float | None) -> Array:
  kind = jnp.result_type(float)
  if rtol is None:
    rtol = 1e-9 if kind == jnp.float64 else 1e-5
  return jnp.asarray(rtol, kind)


def _require_solved(states: np.ndarray, rows: np.ndarray) -> None:
  failed = ~np.isfinite(states).all((1, 2))
  if failed.any():
    first = zip(params.NAMES, rows[failed][0].tolist(), strict=True)
    told = ", ".join(f"{name}={value:g}" for name, value in first)
    raise errors.UserError(
      f"the solver gave up after {_MAX_STEPS} steps for {failed.sum()} of "
      f"{len(rows)} sets of parameters; expected rates of a similar size, try "
      f"stiff=True: the first is {told}"
    )
