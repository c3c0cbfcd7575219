"""Least squares of a line, one point at a time, in five numbers."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float


class Moments(NamedTuple):
  r"""Five running numbers that a line's closed form needs, each `[b, h]`.

  They carry the same as $n, \sum x, \sum y, \sum x^2, \sum xy$, but about the
  means: after a prompt of 1024 tokens $\log S$ hardly moves, and in float32
  $n \sum x^2 - (\sum x)^2$ would be noise.

  Attributes:
    count: $n$.
    mean_x: $\bar x$.
    mean_y: $\bar y$.
    sxx: $\sum (x - \bar x)^2$.
    sxy: $\sum (x - \bar x)(y - \bar y)$.
  """

  count: jax.Array
  mean_x: jax.Array
  mean_y: jax.Array
  sxx: jax.Array
  sxy: jax.Array


def empty(batch: int, heads: int) -> Moments:
  """Returns the moments of no points."""
  return Moments(*[jnp.zeros((batch, heads))] * 5)


def add(
  moments: Moments,
  x: Float[Array, "b rows"],
  y: Float[Array, "b h rows"],
  live: Bool[Array, "b rows"],
) -> Moments:
  """Adds points.

  Args:
    moments: of the points so far.
    x: abscissae, shared by heads.
    y: ordinates.
    live: which points count; others may be anything.

  Returns:
    The moments of all points.

  References:
    Chan, Golub and LeVeque, Updating formulae and a pairwise algorithm for
    computing sample variances, 1982.
  """
  live = jnp.broadcast_to(live[:, None], y.shape)
  x = jnp.where(live, x[:, None], 0)
  y = jnp.where(live, y, 0)
  more = live.sum(-1).astype(y.dtype)
  some = jnp.maximum(more, 1)
  mean_x, mean_y = x.sum(-1) / some, y.sum(-1) / some
  dx = jnp.where(live, x - mean_x[..., None], 0)
  dy = y - mean_y[..., None]
  count = moments.count + more
  share = more / jnp.maximum(count, 1)
  gap_x, gap_y = mean_x - moments.mean_x, mean_y - moments.mean_y
  between = moments.count * share
  return Moments(
    count,
    moments.mean_x + share * gap_x,
    moments.mean_y + share * gap_y,
    moments.sxx + (dx * dx).sum(-1) + between * gap_x * gap_x,
    moments.sxy + (dx * dy).sum(-1) + between * gap_x * gap_y,
  )


def line(
  moments: Moments, least: float, most: float
) -> tuple[Float[Array, "b h"], Float[Array, "b h"]]:
  r"""Fits $y = \log\alpha - \beta x$ with $\beta$ held within bounds.

  The bounded optimum of a convex quadratic is the free one clipped.

  Args:
    moments: of the points; without two distinct abscissae the free $\beta$ is
      taken as 0.
    least: smallest $\beta$.
    most: largest $\beta$.

  Returns:
    $\log\alpha$ and $\beta$.
  """
  spread = moments.sxx > 0
  slope = moments.sxy / jnp.where(spread, moments.sxx, 1)
  beta = jnp.clip(jnp.where(spread, -slope, 0), least, most)
  return moments.mean_y + beta * moments.mean_x, beta
