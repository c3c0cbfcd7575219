"""Emulated links as a process on a node sees them."""

import os
import pathlib
import socket
import statistics
import subprocess
import sys
from collections.abc import Iterator

import pytest

from research.cluster import children, emulation, network

# Slow enough for what a busy machine adds to be small.
_WANTED = network.parse("2x1,alpha=4ms,bw=200Mb")

# The time from SYN to SYN-ACK is one round trip; nobody needs to accept.
_LISTEN = """
import socket, sys
server = socket.create_server((socket.gethostname(), 7000))
print("ready", flush=True)
sys.stdin.read()
"""
_CONNECT = """
import socket, time
for _ in range(20):
  start = time.perf_counter()
  socket.create_connection(("node1", 7000)).close()
  print(time.perf_counter() - start)
"""


@pytest.fixture(scope="module")
def links() -> Iterator[emulation.Links]:
  before = socket.if_nameindex()
  try:
    with emulation.start(_WANTED) as links:
      yield links
  except emulation.UnavailableError as error:
    pytest.skip(f"links cannot be emulated here: {error}")
  assert socket.if_nameindex() == before


def _shell(links: emulation.Links, node: int, script: str) -> str:
  command = links.inside(node, ["sh", "-c", script])
  return subprocess.run(
    command, capture_output=True, text=True, check=True, timeout=60
  ).stdout.strip()


def test_round_trip_and_bandwidth_are_as_requested(links: emulation.Links):
  measured = links.check()
  assert measured is not None
  assert measured.near(_WANTED)


def test_round_trip_seen_by_another_program(links: emulation.Links):
  listen = children.dying_with_parent([sys.executable, "-c", _LISTEN])
  with subprocess.Popen(
    links.inside(1, listen),
    stdin=subprocess.PIPE,
    stdout=subprocess.PIPE,
    text=True,
  ) as server:
    assert server.stdout is not None
    assert server.stdout.readline() == "ready\n"
    for _ in range(4):  # a busy machine is late, now and then
      out = subprocess.check_output(
        links.inside(0, [sys.executable, "-c", _CONNECT]), text=True, timeout=60
      )
      trips = [float(line) for line in out.splitlines()]
      assert min(trips) >= 2 * _WANTED.alpha  # never faster than light
      trip = statistics.quantiles(trips, n=4)[0]
      if abs(trip / (2 * _WANTED.alpha) - 1) <= 0.15:
        break
    else:
      pytest.fail(f"round trip {trip} s over a link of {_WANTED.alpha} s")


def test_a_node_has_its_own_name_and_address(links: emulation.Links):
  for node in range(2):
    name, line = _shell(links, node, "uname -n; cat /etc/hosts").split("\n", 1)
    assert name == f"node{node}"
    assert f"{network.address(node)} {name}" in line
  assert socket.gethostname() not in ("node0", "node1")


def test_processes_of_one_node_share_it(links: emulation.Links):
  nets = [
    _shell(links, node, "readlink /proc/self/ns/net") for node in (0, 0, 1)
  ]
  assert nets[0] == nets[1] != nets[2]
  assert os.readlink("/proc/self/ns/net") not in nets


def test_shared_memory_goes_with_the_network(
  links: emulation.Links, tmp_path: pathlib.Path
):
  file = pathlib.Path("/dev/shm") / tmp_path.name
  assert _shell(links, 0, f"touch {file} && ls -A /dev/shm") == file.name
  assert not file.exists()


def test_there_is_no_way_out(links: emulation.Links):
  script = (
    "import socket\n"
    "try: socket.create_connection(('192.0.2.1', 80), 5)\n"
    "except OSError as error: print(error)"
  )
  out = subprocess.check_output(
    links.inside(0, [sys.executable, "-c", script]), text=True, timeout=60
  )
  assert "unreachable" in out


def test_commands_keep_user_folder_and_exit_code(links: emulation.Links):
  assert _shell(links, 0, "id -u; id -g; pwd").split() == [
    str(os.getuid()),
    str(os.getgid()),
    os.getcwd(),
  ]
  done = subprocess.run(links.inside(0, ["sh", "-c", "exit 7"]))
  assert done.returncode == 7


@pytest.mark.parametrize(
  ("round_trip", "bandwidth", "near"),
  [
    (8e-3, 200e6, True),
    (9.1e-3, 171e6, True),
    (9.3e-3, 200e6, False),
    (8e-3, 169e6, False),
    (6.7e-3, 200e6, False),
    (8e-3, 231e6, False),
  ],
)
def test_within_fifteen_percent(
  round_trip: float, bandwidth: float, near: bool
):
  assert emulation.Measured(round_trip, bandwidth).near(_WANTED) == near
