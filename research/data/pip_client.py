"""Downloads one distribution file with pip, watched for progress.

pip runs as a subprocess, so that the user's own configuration (index,
mirror, proxy, certificates) holds and no host is named here. It is given the
expected hash and so refuses a wrong file before it looks inside.
"""

import os
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable

from research.cluster import children
from research.data import manifest

_POLL_SECONDS = 0.1
_NO_NETWORK = re.compile(
  r"NewConnectionError|ConnectTimeout|ReadTimeout|ProxyError|SSLError"
  r"|Connection (?:refused|reset|broken)|Temporary failure in name resolution"
  r"|Network is unreachable"
)
_GOT_HASH = re.compile(r"\bGot\s+([0-9a-f]{64})")
_NO_SPACE = re.compile(r"No space left on device|Disk quota exceeded")


class DiskFullError(Exception):
  """pip ran out of disk space."""


def download(
  distribution: manifest.Distribution,
  folder: pathlib.Path,
  *,
  report: Callable[[int], None],
) -> pathlib.Path:
  """Downloads a distribution file into `folder`.

  Args:
    distribution: what to fetch.
    folder: where the file is put; pip's temporary files stay below it too,
      so that they are on the disk that must have the space.
    report: called a few times a second with the bytes that have arrived.

  Returns:
    Path of the file, whose hash pip has checked.

  Raises:
    ArtifactError: pip is missing, there is no network, no such package, or
      the file has another hash.
    DiskFullError: the disk filled up.
  """
  work = pathlib.Path(tempfile.mkdtemp(prefix="pip-", dir=folder))
  try:
    output, code = _run(distribution, work, report)
    found = work / distribution.file
    if code == 0 and found.exists():
      target = folder / distribution.file
      found.replace(target)
      return target
    raise _error(distribution, output, folder)
  finally:
    shutil.rmtree(work, ignore_errors=True)


def _run(
  distribution: manifest.Distribution,
  work: pathlib.Path,
  report: Callable[[int], None],
) -> tuple[str, int]:
  """Runs pip to its end; returns all it wrote and its exit code."""
  requirements = work / "requirements.txt"
  requirements.write_text(
    f"{distribution.requirement} --hash=sha256:{distribution.sha256}\n"
  )
  wheel = distribution.file.endswith(".whl")
  command = [sys.executable, "-m", "pip", "download", "--no-deps", "--no-input"]
  command += ["--disable-pip-version-check", "--progress-bar=off"]
  command += ["--only-binary" if wheel else "--no-binary", distribution.package]
  command += ["--dest", str(work), "--requirement", str(requirements)]
  environment = {**os.environ, "TMPDIR": str(work)}
  with subprocess.Popen(
    children.dying_with_parent(command),
    stdout=subprocess.PIPE,
    stderr=subprocess.STDOUT,
    text=True,
    errors="replace",
    env=environment,
  ) as process:
    try:
      while True:
        try:
          output, _ = process.communicate(timeout=_POLL_SECONDS)
          return output, process.returncode
        except subprocess.TimeoutExpired:
          report(_arrived(distribution, work))
    finally:
      process.kill()


def _arrived(distribution: manifest.Distribution, work: pathlib.Path) -> int:
  """Bytes of the file so far: pip writes it one folder below its TMPDIR."""
  sizes = [0]
  for path in (work / distribution.file, *work.glob(f"*/{distribution.file}")):
    try:
      sizes.append(path.stat().st_size)
    except OSError:  # pip moved it in between
      continue
  return max(sizes)


def _error(
  distribution: manifest.Distribution, output: str, folder: pathlib.Path
) -> Exception:
  """Turns pip's output into one line that says what to do."""
  if _NO_SPACE.search(output):
    return DiskFullError()
  got = _GOT_HASH.search(output)
  if got:
    return manifest.ArtifactError(
      f"{distribution.label}: wrong hash of {distribution.file}: got sha256 "
      f"{got[1]}, expected {distribution.sha256}; the file was removed: try "
      "again, and if it stays so, distrust the package source"
    )
  last = _last_line(output)
  if "No module named pip" in last:
    mend = f"install it with `{sys.executable} -m ensurepip --upgrade`"
  elif _NO_NETWORK.search(output):
    last = f"no network; {last}"
    mend = "check the connection and pip's configuration"
  else:
    mend = "check pip's configuration (`python -m pip config list`)"
  return manifest.ArtifactError(
    f"{distribution.label}: pip could not download {distribution.requirement}: "
    f"{last}; {mend}, or put {distribution.file} into {folder} yourself"
  )


def _last_line(output: str) -> str:
  """The last error that pip reported, or the last line it wrote."""
  lines = [line.strip() for line in output.splitlines() if line.strip()]
  errors = [line for line in lines if line.startswith("ERROR: ")]
  if errors and errors[-1] != "ERROR: Exception:":  # a traceback follows that
    return errors[-1].removeprefix("ERROR: ")
  return lines[-1] if lines else "nothing"
