"""Outside models and data: fetched once, verified, kept in a cache.

What exists is listed in `third_party/artifacts.toml`. Files arrive through
the registries' own clients, are compared with recorded hashes, and are
reused from then on without any network.
"""

import contextlib
import errno
import fcntl
import json
import os
import pathlib
import shutil
from collections.abc import Iterator
from typing import Any

from research.data import archive, manifest, pip_client

ArtifactError = manifest.ArtifactError

_FULL = (errno.ENOSPC, errno.EDQUOT)


def cache_dir() -> pathlib.Path:
  """Returns the folder that holds every cached file.

  `DECTET_CACHE_DIR` if set, else `dectet` in the user's cache folder.
  """
  root = os.environ.get("XDG_CACHE_HOME") or pathlib.Path.home() / ".cache"
  return pathlib.Path(
    os.environ.get("DECTET_CACHE_DIR") or pathlib.Path(root) / "dectet"
  )


def names(table: pathlib.Path | None = None) -> tuple[str, ...]:
  """Returns every name that `fetch` knows, in the order of the table."""
  return tuple(m.name for a in manifest.load(table) for m in a.members)


def fetch(
  name: str,
  *,
  offline: bool = False,
  progress: bool = True,
  table: pathlib.Path | None = None,
) -> pathlib.Path:
  """Returns the path of an outside file, fetching it on first use.

  Args:
    name: such as "smollm2-135m-instruct-q4_1" or "shakespeare/hamlet".
    offline: use the cache only; `DECTET_OFFLINE=1` does the same.
    progress: show a progress bar on stderr while something happens.
    table: a table of artifacts to use instead of the project's own.

  Returns:
    A file in the cache, equal to its recorded hash; do not change it.

  Raises:
    ArtifactError: the name is unknown, or the file cannot be had: no
      network, wrong hash, disk full, missing member, offline and not cached,
      or a cache folder that cannot be written.
  """
  artifact, member = manifest.find(manifest.load(table), name)
  folder = cache_dir() / "artifacts" / f"{artifact.name}-{artifact.version}"
  with _clear_errors(artifact, folder):
    ready = _is_ready(folder, member) or _restamp(folder, artifact, progress)
    if not ready:
      offline = offline or os.environ.get("DECTET_OFFLINE") == "1"
      if offline and (missing := _missing(artifact, folder)):
        raise ArtifactError(
          f"{name}: not in the cache, and offline: expected it in {folder}"
          f"{_progress_so_far(artifact, missing)}; "
          "fetch it once without offline mode and DECTET_OFFLINE"
        )
      folder.mkdir(parents=True, exist_ok=True)
      with _locked(folder, progress):
        if not _is_ready(folder, member):  # another process may have done it
          _install(artifact, folder, progress)
  return folder / member.filename


def _install(
  artifact: manifest.Artifact, folder: pathlib.Path, progress: bool
) -> None:
  """Brings all members of an artifact into its folder.

  Distribution files stay until every member is in its place, so that a run
  that was killed has lost no more than the file it was fetching.
  """
  for left_over in folder.glob("pip-*"):  # of a run that was killed
    shutil.rmtree(left_over, ignore_errors=True)
  with _bar(progress) as bar:
    _download(artifact, folder, bar)
    total = artifact.bytes_unpacked
    task = bar.add_task(f"unpack {artifact.name}", total=total)
    archive.unpack(artifact, folder, report=lambda n: bar.advance(task, n))
  _write_stamps(folder, artifact)
  _remove_distributions(folder, artifact)


def _download(
  artifact: manifest.Artifact, folder: pathlib.Path, bar: Any
) -> None:
  """Fetches the distribution files that are not there yet."""
  missing = _missing(artifact, folder)
  if not missing:
    return
  needed = sum(distribution.bytes for distribution in missing)
  for distribution in missing:
    (folder / distribution.file).unlink(missing_ok=True)
  _require_space(folder, needed + artifact.bytes_unpacked)
  done = artifact.bytes_to_fetch - needed
  task = bar.add_task(
    f"fetch {artifact.name}", total=artifact.bytes_to_fetch, completed=done
  )
  for distribution in missing:
    report = lambda n, done=done: bar.update(task, completed=done + n)
    pip_client.download(distribution, folder, report=report)
    done += distribution.bytes
    bar.update(task, completed=done)


def _missing(
  artifact: manifest.Artifact, folder: pathlib.Path
) -> list[manifest.Distribution]:
  """The distribution files that no earlier run has left here whole."""
  return [
    distribution
    for distribution in artifact.distributions
    if not _is_intact(folder / distribution.file, distribution)
  ]


def _is_intact(
  path: pathlib.Path, expected: manifest.Distribution | manifest.Member
) -> bool:
  return (
    path.is_file()
    and path.stat().st_size == expected.bytes
    and archive.sha256(path) == expected.sha256
  )


def _progress_so_far(
  artifact: manifest.Artifact, missing: list[manifest.Distribution]
) -> str:
  count = len(artifact.distributions)
  if count == 1:
    return ""
  return (
    f", got {count - len(missing)} of its {count} parts (no {missing[0].file})"
  )


def _remove_distributions(
  folder: pathlib.Path, artifact: manifest.Artifact
) -> None:
  for distribution in artifact.distributions:
    (folder / distribution.file).unlink(missing_ok=True)


def _stamp(folder: pathlib.Path, member: manifest.Member) -> dict[str, Any]:
  stat = (folder / member.filename).stat()
  return {
    "sha256": member.sha256,
    "bytes": stat.st_size,
    "mtime_ns": stat.st_mtime_ns,
  }


def _is_ready(folder: pathlib.Path, member: manifest.Member) -> bool:
  """Whether the member is unpacked and unchanged since it was verified.

  The stamp stands for the hash, which would take a second per gigabyte.
  """
  try:
    stamps = json.loads((folder / "stamps.json").read_text())
    return stamps[member.filename] == _stamp(folder, member)
  except (OSError, ValueError, KeyError, TypeError):
    return False


def _restamp(
  folder: pathlib.Path, artifact: manifest.Artifact, progress: bool
) -> bool:
  """Verifies files without a valid stamp, as in a cache that was copied.

  The stamps may also be missing because a run was killed just before it wrote
  them; then its distribution files are still here.
  """
  if not all(_is_intact(folder / m.filename, m) for m in artifact.members):
    return False
  with contextlib.suppress(OSError), _locked(folder, progress):
    _write_stamps(folder, artifact)  # unless the cache is read-only
    _remove_distributions(folder, artifact)
  return True


def _write_stamps(folder: pathlib.Path, artifact: manifest.Artifact) -> None:
  stamps = {m.filename: _stamp(folder, m) for m in artifact.members}
  part = folder / "stamps.json.part"
  with part.open("w") as file:
    json.dump(stamps, file, indent=1)
    file.flush()
    os.fsync(file.fileno())
  part.replace(folder / "stamps.json")


@contextlib.contextmanager
def _locked(folder: pathlib.Path, progress: bool) -> Iterator[None]:
  """Holds the folder's lock; the system frees it if the process dies."""
  with (folder / "lock").open("w") as file:
    try:
      fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
      with _bar(progress) as bar:
        bar.add_task(f"wait for another process on {folder.name}", total=None)
        fcntl.flock(file, fcntl.LOCK_EX)
    yield


def _bar(progress: bool) -> Any:
  import rich.console  # heavy, and not needed when all is cached
  import rich.progress

  return rich.progress.Progress(
    rich.progress.TextColumn("{task.description}"),
    rich.progress.BarColumn(),
    rich.progress.DownloadColumn(binary_units=True),
    rich.progress.TimeRemainingColumn(),
    console=rich.console.Console(stderr=True),
    disable=not progress,
  )


def _require_space(folder: pathlib.Path, needed: int) -> None:
  if shutil.disk_usage(folder).free < needed:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


@contextlib.contextmanager
def _clear_errors(
  artifact: manifest.Artifact, folder: pathlib.Path
) -> Iterator[None]:
  """Turns errors of the file system into one line that says what to do."""
  try:
    yield
  except pip_client.DiskFullError:
    raise _disk_full(artifact, folder) from None
  except OSError as error:
    if error.errno in _FULL:
      raise _disk_full(artifact, folder) from None
    raise ArtifactError(
      f"{artifact.name}: cannot use the cache folder {folder}: "
      f"{error.strerror}; set DECTET_CACHE_DIR to a folder you can write"
    ) from None


def _disk_full(
  artifact: manifest.Artifact, folder: pathlib.Path
) -> ArtifactError:
  needed = artifact.bytes_to_fetch + artifact.bytes_unpacked
  free = shutil.disk_usage(folder).free
  return ArtifactError(
    f"{artifact.name}: disk full: got {free / 2**20:.1f} MiB free in {folder}, "
    f"expected at least {needed / 2**20:.1f} MiB; free some, or set "
    "DECTET_CACHE_DIR to another disk"
  )
