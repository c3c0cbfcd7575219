"""The process that holds the nodes' namespaces and carries their packets.

`research.cluster.emulation` starts it. It writes one line of JSON, either the
namespaces' paths or why there are none, then relays until its standard input
ends, which it does when the launcher dies, whatever kills it. Then it kills all
that still runs in the namespaces and ends; with the last process the kernel
removes namespaces and devices.
"""

import contextlib
import fcntl
import gc
import json
import os
import pathlib
import shutil
import socket
import struct
import subprocess
import sys
import tempfile

from research.cluster import namespaces, network, relay

_DEVICE = "fabric"
_MTU = 65000
# Linux acknowledges at once, sends without a slow start, and does not pace: a
# message then takes alpha + bytes / bandwidth, as on a fabric, and not what a
# connection over the internet would.
_TCP = "quickack 1 congctl cubic initcwnd 500 initrwnd 500"
_SYSCTLS = {
  "tcp_slow_start_after_idle": "0",
  "tcp_no_metrics_save": "1",
  "tcp_rmem": "4096 8388608 33554432",
  "tcp_wmem": "4096 8388608 33554432",
}
_NO_IPV6 = f"/proc/sys/net/ipv6/conf/{_DEVICE}/disable_ipv6"
_NODE_KINDS = ("uts", "net")  # namespaces of which each node has its own
_SHARED_MEMORY = "/dev/shm"
_TUNSETIFF = 0x400454CA
_TUNSETOFFLOAD = 0x400454D0
_IFF_TUN, _IFF_NO_PI, _IFF_VNET_HDR = 0x1, 0x1000, 0x4000
_TUN_F_CSUM = 0x1  # no checksums: packets never leave this machine


def main() -> int:
  """Runs the process and returns its exit code."""
  wanted = network.parse(sys.argv[1])
  try:
    with contextlib.suppress(PermissionError):  # root's relay is never late
      os.setpriority(os.PRIO_PROCESS, 0, -20)
    shared = _leave_machine(wanted.nodes)
    nodes = [_make_node(i) for i in range(wanted.nodes)]
    namespaces.unshare(namespaces.NET)  # out of the last node
  except OSError as error:
    print(json.dumps({"unavailable": str(error)}), flush=True)
    return os.EX_UNAVAILABLE
  paths = [[*shared, *files] for _, files in nodes]
  nets = [os.readlink(files[-1]) for _, files in nodes]
  print(json.dumps({"namespaces": paths, "nets": nets}), flush=True)
  devices = [device for device, _ in nodes]
  ports = relay.Ports(wanted.nodes, wanted.alpha, wanted.bandwidth / 8)
  gc.disable()  # packets refer to nothing: they are freed without it
  relay.run(devices, ports, _targets(wanted.nodes), sys.stdin.fileno())
  namespaces.kill_inside(nets)
  return 0


def _leave_machine(nodes: int) -> list[str]:
  """Takes a mount namespace with the nodes' names, as root or without.

  Returns:
    Paths of the namespaces that all nodes share.
  """
  if not sys.platform.startswith("linux"):
    raise OSError(f"this is {sys.platform}")
  if shutil.which("ip") is None:
    raise FileNotFoundError("there is no program ip")
  own = f"/proc/{os.getpid()}/ns"
  shared = [f"{own}/mnt"]
  try:
    namespaces.unshare(namespaces.MOUNT)
  except PermissionError:
    namespaces.unshare_user((0, 0), (os.getuid(), os.getgid()))
    namespaces.unshare(namespaces.MOUNT)
    shared = [f"{own}/user", f"{own}/mnt"]
  namespaces.hide_mounts()
  if os.path.isdir(_SHARED_MEMORY):  # what nodes leave there goes with them
    namespaces.empty(_SHARED_MEMORY)
  with tempfile.NamedTemporaryFile("w") as file:  # stays, mounted but nameless
    file.write("127.0.0.1 localhost\n")
    for i in range(nodes):
      file.write(f"{network.address(i)} node{i}\n")
    file.flush()
    os.fchmod(file.fileno(), 0o444)
    namespaces.bind(file.name, "/etc/hosts")
  return shared


def _make_node(i: int) -> tuple[int, list[str]]:
  """Makes a node: its device, and the paths of its own namespaces."""
  namespaces.unshare(namespaces.NET | namespaces.HOSTNAME)
  socket.sethostname(f"node{i}")
  device = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK)
  flags = _IFF_TUN | _IFF_NO_PI | _IFF_VNET_HDR
  fcntl.ioctl(
    device, _TUNSETIFF, struct.pack("16sH22x", _DEVICE.encode(), flags)
  )
  fcntl.ioctl(device, _TUNSETOFFLOAD, _TUN_F_CSUM)
  for name, value in _SYSCTLS.items():
    pathlib.Path("/proc/sys/net/ipv4", name).write_text(value)
  with contextlib.suppress(FileNotFoundError):  # a kernel without IPv6
    pathlib.Path(_NO_IPV6).write_text("1")
  _ip(
    "link set lo up",
    f"link set {_DEVICE} mtu {_MTU} txqueuelen 10000 up",
    f"address add {network.address(i)}/15 dev {_DEVICE} noprefixroute",
    f"route add 198.18.0.0/15 dev {_DEVICE} src {network.address(i)} {_TCP}",
    *(
      f"route replace table local local {target} dev {dev} proto kernel"
      f" scope host src {source} {_TCP}"
      for target, dev, source in (
        ("127.0.0.0/8", "lo", "127.0.0.1"),
        ("127.0.0.1", "lo", "127.0.0.1"),
        (network.address(i), _DEVICE, network.address(i)),
      )
    ),
  )
  # Open files keep the namespaces when this process goes on to the next.
  files = [
    os.open(f"/proc/self/ns/{kind}", os.O_RDONLY) for kind in _NODE_KINDS
  ]
  return device, [f"/proc/{os.getpid()}/fd/{file}" for file in files]


def _ip(*lines: str) -> None:
  done = subprocess.run(
    ["ip", "-batch", "-"],
    input="\n".join(lines),
    capture_output=True,
    text=True,
  )
  if done.returncode:
    raise OSError(f"ip: {done.stderr.strip().splitlines()[0]}")


def _targets(nodes: int) -> dict[bytes, int]:
  return {socket.inet_aton(network.address(i)): i for i in range(nodes)}


if __name__ == "__main__":
  sys.exit(main())
