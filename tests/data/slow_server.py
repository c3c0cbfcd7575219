"""Serves a folder of wheels over HTTP, and one of them as slowly as asked."""

import contextlib
import http.server
import pathlib
import threading
from collections.abc import Iterator
from typing import NamedTuple


class Server(NamedTuple):
  """A running server.

  Attributes:
    address: of the listing of its folder.
    halfway: set once half of the held file is out.
    asked: wheels that were asked for, by name and in order.
  """

  address: str
  halfway: threading.Event
  asked: list[str]


@contextlib.contextmanager
def serve(
  folder: pathlib.Path, held: str, go_on: threading.Event, *, cut: bool = False
) -> Iterator[Server]:
  """Serves half of each file with `held` in its name, the rest after `go_on`.

  With `cut` the rest never comes.
  """
  halfway, asked = threading.Event(), []

  class Handler(http.server.SimpleHTTPRequestHandler):
    def copyfile(self, source, outputfile):
      content = source.read()
      if self.path.endswith(".whl"):
        asked.append(self.path.lstrip("/"))
      half = len(content) // 2 if held in self.path else 0
      outputfile.write(content[:half])
      if half:
        outputfile.flush()
        halfway.set()
        go_on.wait(60)
      if half and cut:
        return
      with contextlib.suppress(OSError):  # the client may be dead
        outputfile.write(content[half:])

    def log_message(self, format, *args):
      pass

  class Daemon(http.server.ThreadingHTTPServer):
    daemon_threads = True

  handler = lambda *args: Handler(*args, directory=str(folder))
  with Daemon(("127.0.0.1", 0), handler) as server:
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
      address = f"http://127.0.0.1:{server.server_port}/"
      yield Server(address, halfway, asked)
    finally:
      go_on.set()
      server.shutdown()
      thread.join()
