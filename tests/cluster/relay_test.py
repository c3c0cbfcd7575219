import os
import socket
import threading

import pytest

from research.cluster import relay


def test_a_message_takes_alpha_and_its_bytes():
  ports = relay.Ports(2, alpha=0.5, rate=1000.0)
  assert ports.arrival(10.0, 0, 1, 250) == pytest.approx(10.0 + 0.5 + 0.25)


def test_alpha_overlaps_with_sending():
  # Ten packets sent at once cost alpha once, not ten times.
  ports = relay.Ports(2, alpha=5.0, rate=100.0)
  arrivals = [ports.arrival(0.0, 0, 1, 100) for _ in range(10)]
  assert arrivals == pytest.approx([6.0 + i for i in range(10)])


def test_an_idle_port_gains_no_credit():
  ports = relay.Ports(2, alpha=1.0, rate=100.0)
  ports.arrival(0.0, 0, 1, 100)
  assert ports.arrival(50.0, 0, 1, 100) == pytest.approx(52.0)


def test_receivers_port_is_shared_by_all_senders():
  # Three senders to one node: the last byte is in after 3 M / B, not M / B.
  ports = relay.Ports(4, alpha=1.0, rate=100.0)
  last = max(ports.arrival(0.0, source, 3, 200) for source in range(3))
  assert last == pytest.approx(1.0 + 3 * 2.0)


def test_both_directions_are_independent():
  ports = relay.Ports(2, alpha=1.0, rate=100.0)
  assert ports.arrival(0.0, 0, 1, 100) == ports.arrival(0.0, 1, 0, 100)


def test_packets_reach_their_target_in_order_and_others_are_dropped():
  # Socket pairs in place of TUN devices: one packet per message, both ways.
  pairs = [socket.socketpair(type=socket.SOCK_SEQPACKET) for _ in range(3)]
  for inner, _ in pairs:
    inner.setblocking(False)
  reader, writer = os.pipe()
  thread = threading.Thread(
    target=relay.run,
    args=(
      [inner.fileno() for inner, _ in pairs],
      relay.Ports(3, alpha=1e-3, rate=1e9),
      {bytes([198, 18, 0, i + 1]): i for i in range(3)},
      reader,
    ),
  )
  thread.start()
  outer = [other for _, other in pairs]
  outer[0].send(_packet(bytes([8, 8, 8, 8]), b"stray"))
  outer[0].send(_packet(bytes([198, 18, 0, 3]), b"x", version=6))
  for i in range(5):
    outer[0].send(_packet(bytes([198, 18, 0, 3]), bytes([i]) * 1000))
  outer[2].settimeout(30)
  got = [outer[2].recv(1 << 16)[-1] for _ in range(5)]
  os.close(writer)  # the end of `until` is the end of the relay
  thread.join(30)
  assert not thread.is_alive()
  assert got == [0, 1, 2, 3, 4]
  outer[1].setblocking(False)
  with pytest.raises(BlockingIOError):
    outer[1].recv(1)
  os.close(reader)
  for inner, other in pairs:
    inner.close()
    other.close()


def _packet(target: bytes, payload: bytes, version: int = 4) -> bytes:
  head = bytes([version << 4]) + bytes(15) + target
  return bytes(relay.HEADER) + head + payload
