"""What an emulated network looks like: its grid, latency and bandwidth.

Written `4x2,alpha=1ms,bw=1Gb`: four nodes of two processes, one millisecond
from node to node each way, and a port of one gigabit a second, in and out, per
node.
"""

import dataclasses
import ipaddress
import os
import re

#: The variable that tells a process which emulated network it runs on.
VARIABLE = "DECTET_NETWORK"

_EXAMPLE = "4x2,alpha=1ms,bw=1Gb"
# A range for benchmarks that no router forwards (RFC 2544).
_ADDRESSES = ipaddress.ip_network("198.18.0.0/15")
_MAX_NODES = 64
_SECONDS = {"us": 1e-6, "ms": 1e-3, "s": 1.0}
_BITS = {"Mb": 1e6, "Gb": 1e9}
_NUMBER = r"(\d+(?:\.\d+)?)"


@dataclasses.dataclass(frozen=True)
class Network:
  r"""Nodes of equally many processes behind links of one kind.

  A message of $M$ bytes from one node to another takes $\alpha + 8M / B$ when
  nothing else is on its way; the processes of a node share its port.

  Attributes:
    nodes: number of nodes.
    per_node: processes of each node; process i is on node i // per_node.
    alpha: seconds from one node to another, one way.
    bandwidth: bits a second into and, separately, out of a node.

  Example:
    >>> network = parse("4x2,alpha=500us,bw=10Gb")
    >>> network.nodes, network.per_node, network.alpha, network.bandwidth
    (4, 2, 0.0005, 10000000000.0)
    >>> str(network)
    '4x2,alpha=0.5ms,bw=10Gb'
  """

  nodes: int
  per_node: int
  alpha: float
  bandwidth: float

  @property
  def num_processes(self) -> int:
    """Processes of the whole job."""
    return self.nodes * self.per_node

  def node(self, process: int) -> int:
    """Returns the node on which a process runs."""
    return process // self.per_node

  def __str__(self) -> str:
    return (
      f"{self.nodes}x{self.per_node},alpha={self.alpha * 1e3:g}ms"
      f",bw={self.bandwidth / 1e9:g}Gb"
    )


def address(node: int) -> str:
  """Returns the address of a node.

  Example:
    >>> address(0), address(3)
    ('198.18.0.1', '198.18.0.4')
  """
  return str(_ADDRESSES[node + 1])


def current() -> Network | None:
  """Returns the network that this process runs on, None on a real one."""
  text = os.environ.get(VARIABLE)
  return parse(text) if text else None


def parse(text: str) -> Network:
  """Reads a description such as `4x2,alpha=1ms,bw=1Gb`.

  Args:
    text: nodes `x` processes per node; then, in any order, `alpha=` in us, ms
      or s (at most 1 s) and `bw=` in Mb or Gb a second (10 Mb to 100 Gb).

  Raises:
    ValueError: the text is no such description.
  """
  grid, *settings = text.split(",")
  match = re.fullmatch(r"(\d+)x(\d+)", grid)
  if not match:
    raise _error(text, f"{grid!r} to be nodes x processes, such as 4x2")
  nodes, per_node = int(match[1]), int(match[2])
  if not (1 <= nodes <= _MAX_NODES and per_node >= 1):
    raise _error(
      text, f"1 to {_MAX_NODES} nodes of at least 1 process instead of {grid!r}"
    )
  pairs = [setting.partition("=") for setting in settings]
  values = {name: value for name, _, value in pairs}
  if len(settings) != 2 or values.keys() != {"alpha", "bw"}:
    raise _error(text, "alpha=TIME and bw=RATE after the grid, each once")
  alpha = _quantity(text, "alpha", values["alpha"], _SECONDS)
  if alpha > 1:
    raise _error(text, "alpha to be at most 1s")
  bandwidth = _quantity(text, "bw", values["bw"], _BITS)
  if not 1e7 <= bandwidth <= 1e11:
    raise _error(text, "bw to be from 10Mb to 100Gb")
  return Network(nodes, per_node, alpha, bandwidth)


def _quantity(
  text: str, name: str, value: str, units: dict[str, float]
) -> float:
  match = re.fullmatch(f"{_NUMBER}({'|'.join(units)})", value)
  if not match:
    raise _error(
      text, f"{name}={value} to be a number and one of {', '.join(units)}"
    )
  return float(match[1]) * units[match[2]]


def _error(text: str, expected: str) -> ValueError:
  return ValueError(
    f"got the network {text!r}; expected {expected}; for example {_EXAMPLE}"
  )
