import pathlib
import sys
import time

import pytest

from research.telemetry import peer


def _python(script: str) -> list[str]:
  return [sys.executable, "-c", script]


_ECHO = _python("""
import json, os, sys
for line in sys.stdin:
  answer = json.loads(line) | {"pid": os.getpid()}
  print(json.dumps(answer), flush=True)
""")


def test_one_worker_answers_all_calls_and_dies_at_the_end():
  with peer.PeerProcess(_ECHO) as worker:
    replies = [worker.call({"seconds": s}) for s in (0.5, 0.25)]
    assert [reply.seconds for reply in replies] == [0.5, 0.25]
    (pid,) = {reply.values["pid"] for reply in replies}
    assert pathlib.Path(f"/proc/{pid}").exists()
  assert not pathlib.Path(f"/proc/{pid}").exists()
  with pytest.raises(peer.PeerUnavailableError, match="peer is closed"):
    worker.call({"seconds": 1.0})


def test_program_that_does_not_exist():
  with peer.PeerProcess(["no-such-program"]) as worker:
    with pytest.raises(
      peer.PeerUnavailableError, match="peer no-such-program did not start"
    ):
      worker.call({})


def test_crash_gives_the_last_line_and_stays():
  script = "import sys; print('noise', file=sys.stderr); sys.exit('no model')"
  with peer.PeerProcess(_python(script)) as worker:
    for _ in range(2):
      with pytest.raises(
        peer.PeerUnavailableError, match="ended with code 1: no model$"
      ):
        worker.call({})


def test_silent_death_is_told():
  script = "import os, signal; os.kill(os.getpid(), signal.SIGKILL)"
  with peer.PeerProcess(_python(script)) as worker:
    with pytest.raises(
      peer.PeerUnavailableError, match=r"ended with code -9: \(no message\)$"
    ):
      worker.call({})


def test_hanging_peer_is_given_up():
  with peer.PeerProcess(["sleep", "600"], timeout=0.2) as worker:
    start = time.monotonic()
    with pytest.raises(
      peer.PeerUnavailableError, match="peer sleep 600 no answer within 0.2 s"
    ):
      worker.call({})
    assert time.monotonic() - start < 600


@pytest.mark.parametrize(
  "answer", ['{"second": 1}', "{oops", '{"seconds": -1}']
)
def test_nonsense_is_quoted(answer: str):
  script = f"input(); print({answer!r}, flush=True); input()"
  with peer.PeerProcess(_python(script)) as worker:
    with pytest.raises(
      peer.PeerUnavailableError, match='expected a JSON object with "seconds"'
    ) as caught:
      worker.call({})
    assert repr(answer) in str(caught.value)
