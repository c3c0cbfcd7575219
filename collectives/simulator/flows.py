"""Messages that share ports max-min fairly."""

import jaxtyping
import numpy as np

Ints = jaxtyping.Int[np.ndarray, "n"]
Floats = jaxtyping.Float[np.ndarray, "n"]

#: Times and shares that differ by less, relatively, are the same.
SAME = 1e-9


def rates(
  tx: Ints, rx: Ints, capacities: jaxtyping.Float[np.ndarray, "ports"]
) -> Floats:
  """Gives every message its max-min fair bytes a second.

  The port whose messages would get least fixes their rate; what they leave of
  other ports goes to the rest, and so on.

  Args:
    tx: port through which each message is sent.
    rx: port through which it is received: another resource, even if it has the
      same number.
    capacities: bytes a second of every port, each way.

  Example:
    >>> rates(np.array([0, 0, 1]), np.array([2, 3, 3]), np.full(4, 12.0))
    array([6., 6., 6.])
    >>> rates(np.array([0, 0, 1]), np.array([2, 3, 3]),
    ...   np.array([4.0, 12.0, 12.0, 12.0]))
    array([ 2.,  2., 10.])
  """
  count = len(capacities)
  ends = np.stack([tx, rx + count])
  left = np.concatenate([capacities, capacities])
  result = np.zeros(len(tx))
  waiting = np.arange(len(tx))
  while len(waiting):
    mine = ends[:, waiting]
    users = np.bincount(mine.ravel(), minlength=2 * count)
    share = left / np.maximum(users, 1)
    rate = share[mine].min(0)
    least = np.full(2 * count, np.inf)
    np.minimum.at(least, mine.ravel(), np.tile(rate, 2))
    # None of a full port's messages gets less elsewhere. All such ports are
    # settled at once; the port of the smallest share is always among them.
    full = least >= share * (1 - SAME)
    done = full[mine].any(0)
    result[waiting[done]] = rate[done]
    taken = np.tile(rate[done], 2)
    left -= np.bincount(mine[:, done].ravel(), taken, 2 * count)
    left = np.maximum(left, 0)
    waiting = waiting[~done]
  return result
