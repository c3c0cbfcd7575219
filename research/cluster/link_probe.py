"""Measures a link: round trips and bulk transfers between two processes.

  python link_probe.py serve ADDRESS
  python link_probe.py measure ADDRESS BYTES

The second writes one line of JSON, all times in seconds: those of exchanges of
nothing, which are round trips, and of exchanges of so many bytes. It needs
nothing but the standard library.
"""

import json
import socket
import struct
import sys
import time

_PORT = 8475  # any: the nodes are new
_ROUND_TRIPS = 60
_TRANSFERS = 5
_PATIENCE = 20.0  # seconds, on a busy machine
_CHUNK = 1 << 20
_ZEROS = memoryview(bytes(_CHUNK))
_SIZE = struct.Struct("!Q")


def serve(address: str) -> None:
  """Answers one client: a byte for every message, once all of it is here."""
  with socket.create_server((address, _PORT)) as server:
    server.settimeout(_PATIENCE)
    connection, _ = server.accept()
  buffer = bytearray(_CHUNK)
  with connection:
    connection.settimeout(_PATIENCE)
    _no_delay(connection)
    while header := connection.recv(_SIZE.size, socket.MSG_WAITALL):
      (left,) = _SIZE.unpack(header)
      while left:
        left -= connection.recv_into(buffer, min(left, _CHUNK))
      connection.sendall(b"k")


def measure(address: str, size: int) -> dict[str, list[float]]:
  """Returns the times of round trips and of transfers of `size` bytes."""
  with _connect(address) as connection:
    _no_delay(connection)
    _exchange(connection, 0)
    return {
      "round_trips": [_exchange(connection, 0) for _ in range(_ROUND_TRIPS)],
      "transfers": [_exchange(connection, size) for _ in range(_TRANSFERS)],
    }


def _connect(address: str) -> socket.socket:
  deadline = time.monotonic() + _PATIENCE
  while True:
    try:
      return socket.create_connection((address, _PORT), timeout=_PATIENCE)
    except ConnectionRefusedError:  # it has not started yet
      if time.monotonic() > deadline:
        raise
      time.sleep(0.02)


def _exchange(connection: socket.socket, size: int) -> float:
  start = time.perf_counter()
  connection.sendall(_SIZE.pack(size))
  while size:
    sent = min(size, _CHUNK)
    connection.sendall(_ZEROS[:sent])
    size -= sent
  connection.recv(1)
  return time.perf_counter() - start


def _no_delay(connection: socket.socket) -> None:
  connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)


if __name__ == "__main__":
  if sys.argv[1] == "serve":
    serve(sys.argv[2])
  else:
    print(json.dumps(measure(sys.argv[2], int(sys.argv[3]))))
