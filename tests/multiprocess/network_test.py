"""The launcher over emulated links: its end, its users, and a JAX job."""

import os
import pathlib
import re
import shutil
import signal
import socket
import subprocess
import sys
import time

import pytest

from research.cluster import emulation, launch

_HERE = pathlib.Path(__file__).parent
_ROOT = _HERE.parents[1]
# Below 1 ms nothing is checked: these tests are not about the time it takes.
_NETWORK = "--network=2x1,alpha=0.5ms,bw=1Gb"
_DAEMON = "setsid sleep 600 & echo $$ $! $(readlink /proc/self/ns/net);"


def _launch(
  *args: str, python: str = sys.executable, **options: str | int
) -> subprocess.Popen[str]:
  return subprocess.Popen(  # pyrefly: ignore
    [python, "-m", "research.cluster.launch", *args],
    env=os.environ | {"PYTHONPATH": str(_ROOT), "PYTHONDONTWRITEBYTECODE": "1"},
    stdout=subprocess.PIPE,
    stderr=subprocess.PIPE,
    text=True,
    **options,
  )


def _skip_without_links(code: int, err: str) -> None:
  if code == launch.UNAVAILABLE:
    pytest.skip(err.strip())


def _started(job: subprocess.Popen[str]) -> tuple[list[int], set[str]]:
  """Reads what `_DAEMON` prints: processes of two nodes, their namespaces."""
  assert job.stdout is not None
  lines = [job.stdout.readline().split() for _ in range(2)]
  if not all(lines):
    _, err = job.communicate(timeout=60)
    _skip_without_links(job.returncode, err)
    pytest.fail(err)
  pids = [int(pid) for line in lines for pid in line[1:3]]
  return pids, {line[3] for line in lines}


def _left(pids: list[int], nets: set[str], parent: int) -> list[str]:
  """Returns what is still there: processes, and holders of the namespaces."""
  left = []
  for folder in pathlib.Path("/proc").glob("[0-9]*"):
    try:
      stat = (folder / "stat").read_text().rpartition(")")[2].split()
      if stat[0] == "Z":
        continue
      files = [folder / "ns" / "net", *(folder / "fd").iterdir()]
      held = {os.readlink(file) for file in files} & nets
      if int(folder.name) in pids or int(stat[1]) == parent or held:
        left.append(f"{folder.name} {held} {(folder / 'cmdline').read_text()}")
    except OSError:  # it has just ended, or is another user's
      continue
  return left


def _assert_nothing_is_left(
  pids: list[int], nets: set[str], parent: int
) -> None:
  assert len(nets) == 2
  deadline = time.monotonic() + 20
  while left := _left(pids, nets, parent):
    assert time.monotonic() < deadline, left
    time.sleep(0.05)


def test_trap_14_nothing_is_left_after_sigkill_of_the_launcher():
  # Not even daemons that the processes had started.
  before = socket.if_nameindex()
  job = _launch(_NETWORK, "--", "sh", "-c", f"{_DAEMON} exec sleep 600")
  pids, nets = _started(job)
  assert len(_left(pids, nets, job.pid)) >= 5  # two nodes' and the fabric
  job.kill()
  job.communicate(timeout=60)
  _assert_nothing_is_left(pids, nets, job.pid)
  assert socket.if_nameindex() == before


def test_nothing_is_left_after_a_good_end():
  job = _launch(_NETWORK, "--", "sh", "-c", f"{_DAEMON} exit 0")
  pids, nets = _started(job)
  _, err = job.communicate(timeout=60)
  assert job.returncode == 0, err
  _assert_nothing_is_left(pids, nets, job.pid)
  assert err.startswith("launch: network 2x1,alpha=0.5ms,bw=1Gb: round trip ")
  assert len(err.splitlines()) == 1


def test_sigkill_while_the_network_comes_up():
  job = _launch("--network=2x1,alpha=0.5ms,bw=987Mb", "--", "sleep", "600")
  time.sleep(0.3)  # anywhere from the first import to the end of the check
  job.kill()
  job.communicate(timeout=60)
  deadline = time.monotonic() + 60
  mark = "bw=0.987Gb"
  while mark in (left := "".join(map(_command, _pids()))):
    assert time.monotonic() < deadline, left
    time.sleep(0.05)


def _pids() -> list[str]:
  return [name for name in os.listdir("/proc") if name.isdecimal()]


def _command(pid: str) -> str:
  try:
    return pathlib.Path("/proc", pid, "cmdline").read_text()
  except OSError:
    return ""


def test_broken_links_end_the_job():
  job = _launch(_NETWORK, "--", "sh", "-c", f"{_DAEMON} exec sleep 600")
  pids, nets = _started(job)
  fabric = [
    pid for pid in _pids() if "cluster.fabric" in _command(pid)
    and pathlib.Path("/proc", pid, "stat").read_text().split()[3]
    == str(job.pid)
  ]  # fmt: skip
  assert len(fabric) == 1
  os.kill(int(fabric[0]), signal.SIGKILL)
  _, err = job.communicate(timeout=60)
  assert job.returncode == os.EX_SOFTWARE
  assert "the emulated links broke" in err
  _assert_nothing_is_left(pids, nets, job.pid)


def test_code_of_a_process_is_that_of_the_job():
  script = "test $(uname -n) = node0 || exit 7; sleep 600"
  job = _launch(_NETWORK, "--", "sh", "-c", script)
  _, err = job.communicate(timeout=60)
  _skip_without_links(job.returncode, err)
  assert job.returncode == 7
  assert "process 1 ended with code 7" in err


def test_trap_14_works_as_an_ordinary_user():
  user: dict[str, str | int] = {}
  python = sys.executable
  if os.getuid() == 0:
    user = {"user": "nobody", "group": "nogroup"}
    python = _python_of_nobody()
  script = "id -u; grep CapEff /proc/self/status"
  job = _launch(
    _NETWORK, "--", "sh", "-c", script, python=python, cwd="/", **user
  )
  out, err = job.communicate(timeout=60)
  _skip_without_links(job.returncode, err)
  assert job.returncode == 0, err
  words = [line.split() for line in out.splitlines()]
  uids = {line[1] for line in words if len(line) == 2}
  capabilities = {line[2] for line in words if len(line) == 3}
  assert len(uids) == 1
  assert uids != {"0"}
  assert capabilities == {"0" * 16}


def _python_of_nobody() -> str:
  """Finds a Python that nobody may run, and with it this repository."""
  check = (
    f"import sys; sys.path.insert(0, {str(_ROOT)!r});"
    " import research.cluster.launch"
  )
  for python in (sys.executable, shutil.which("python3", path="/usr/bin")):
    try:
      subprocess.run(
        [str(python), "-B", "-c", check],
        user="nobody",
        group="nogroup",
        extra_groups=[],
        cwd="/",
        check=True,
        capture_output=True,
      )
      return str(python)
    except (OSError, subprocess.CalledProcessError, LookupError):
      continue
  pytest.skip("no Python >= 3.11 and repository that the user nobody may read")


@pytest.mark.slow  # on a busy machine links are off target, which is code 75
@pytest.mark.parametrize("links", [(1, 1.0), (5, 0.2), (2, 0.5)])
def test_round_trip_and_bandwidth_are_as_requested(links: tuple[int, float]):
  alpha, bandwidth = links
  job = _launch(f"--network=2x1,alpha={alpha}ms,bw={bandwidth}Gb", "--", "true")
  _, err = job.communicate(timeout=100)
  _skip_without_links(job.returncode, err)
  assert job.returncode == 0, err
  said = re.search(r"round trip ([\d.]+) ms, ([\d.]+) Gb/s", err)
  assert said is not None, err
  trip, rate = map(float, said.groups())
  assert abs(trip / (2 * alpha) - 1) <= 0.15
  assert abs(rate / bandwidth - 1) <= 0.15


def test_trap_10_acknowledgements_are_not_delayed():
  """A delayed one costs 40 ms a step once gloo has fixed a socket's buffer."""
  script = f"{shutil.which('ip')} route show table all"
  job = _launch(_NETWORK, "--", "sh", "-c", script)
  out, err = job.communicate(timeout=60)
  _skip_without_links(job.returncode, err)
  routes = [line for line in out.splitlines() if "quickack 1" in line]
  for device in ("fabric", "lo"):  # of both nodes
    paced = [line for line in routes if f"dev {device} " in line]
    assert {line[:3] for line in paced} == {"[0]", "[1]"}, out
    assert all("congctl cubic" in line for line in paced), out


def test_psum_over_two_nodes(tmp_path: pathlib.Path):
  worker = [sys.executable, str(_HERE / "psum_worker.py"), "end", str(tmp_path)]
  job = _launch(_NETWORK, "--devices=2", "--", *worker)
  out, err = job.communicate(timeout=100)
  _skip_without_links(job.returncode, err)
  assert job.returncode == 0, out + err
  lines = out.splitlines()
  assert "[0] 2 of 4 devices, sum 1111" in lines
  assert "[1] 2 of 4 devices, sum 1111" in lines


def test_trap_14_links_that_cannot_be_had_are_a_skip(
  monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
):
  monkeypatch.setenv("PATH", "/nowhere")
  assert launch.main([_NETWORK, "--", "/bin/echo", "it ran"]) == 69
  out, err = capfd.readouterr()
  assert out == ""
  assert err == (
    "launch: skipped, links cannot be emulated here: got there is no program"
    " ip; expected Linux with ip (iproute2) and /dev/net/tun, and root or a"
    " kernel that allows user namespaces\n"
  )


def test_links_that_are_off_target_are_an_error(
  monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
):
  # No relay written in Python carries 100 Gb a second.
  monkeypatch.setattr(emulation, "_ATTEMPTS", 1)
  monkeypatch.setattr(emulation, "_TRANSFER_SECONDS", 0.002)
  code = launch.main(["--network=2x1,alpha=1ms,bw=100Gb", "--", "echo", "ran"])
  out, err = capfd.readouterr()
  _skip_without_links(code, err)
  assert code == 75
  assert out == ""
  assert "expected round trip 2 ms, 100 Gb/s within 15%; the load is" in err
  assert len(err.splitlines()) == 1


@pytest.mark.parametrize(
  ("argv", "message"),
  [
    (["--network=4by2", "--", "true"], "got the network '4by2'; expected"),
    (["-n", "2", _NETWORK, "--", "true"], "not allowed with argument -n"),
    ([_NETWORK], "got no command; expected one after --"),
  ],
)
def test_bad_command_lines(
  argv: list[str], message: str, capsys: pytest.CaptureFixture[str]
):
  with pytest.raises(SystemExit) as caught:
    launch.main(argv)
  assert caught.value.code == 2
  assert message in capsys.readouterr().err
