"""Unpacks chosen members of distribution files, verified and atomically."""

import contextlib
import hashlib
import io
import os
import pathlib
import tarfile
import zipfile
from collections.abc import Callable, Collection, Iterator
from typing import cast

from research.data import manifest

_BLOCK_BYTES = 1 << 20


def sha256(path: pathlib.Path) -> str:
  """Returns the hex digest of a file."""
  with path.open("rb") as file:
    return hashlib.file_digest(file, "sha256").hexdigest()


def unpack(
  artifact: manifest.Artifact,
  folder: pathlib.Path,
  *,
  report: Callable[[int], None],
) -> None:
  """Unpacks every member into `folder`; other files stay in the archives.

  Each is written beside its place (piece by piece, where it comes in parts),
  compared with its hash, flushed to disk and renamed, so that a reader sees
  the whole file or none. No more than a block is held in memory.

  Args:
    artifact: its entry.
    folder: where the distribution files (wheel, zip or tar.gz) are, and where
      the members go, under `Member.filename`.
    report: called with the bytes unpacked since the last call.

  Raises:
    ArtifactError: a member is missing or differs from its hash.
    OSError: the files cannot be written.
  """
  unfinished = [_Unfinished(member, folder) for member in artifact.members]
  try:
    for distribution in artifact.distributions:
      _append(distribution, unfinished, folder, report)
    for file in unfinished:
      file.finish(artifact.name)
  finally:
    for file in unfinished:
      file.part.unlink(missing_ok=True)


class _Unfinished:
  """A member on its way: the file beside its place, and the hash so far."""

  def __init__(self, member: manifest.Member, folder: pathlib.Path):
    self.member = member
    self._target = folder / member.filename
    self.part = self._target.with_name(self._target.name + ".part")
    self._digest = hashlib.sha256()
    self._target.parent.mkdir(parents=True, exist_ok=True)
    self.part.unlink(missing_ok=True)  # of a run that was killed

  def append(
    self, source: io.BufferedIOBase, report: Callable[[int], None]
  ) -> None:
    """Copies a stream to the end of the file, and on to the disk."""
    with source, self.part.open("ab") as file:
      while block := source.read(_BLOCK_BYTES):
        file.write(block)
        self._digest.update(block)
        report(len(block))
      file.flush()
      os.fsync(file.fileno())

  def finish(self, label: str) -> None:
    """Compares the hash and puts the file in its place."""
    if self._digest.hexdigest() != self.member.sha256:
      raise manifest.ArtifactError(
        f"{label}: wrong hash of member {self.member.path!r}: got sha256 "
        f"{self._digest.hexdigest()}, expected {self.member.sha256}; correct "
        "it in artifacts.toml"
      )
    self.part.replace(self._target)


def _append(
  distribution: manifest.Distribution,
  unfinished: Collection[_Unfinished],
  folder: pathlib.Path,
  report: Callable[[int], None],
) -> None:
  """Appends what one distribution file holds of every member."""
  missing = {distribution.path(file.member): file for file in unfinished}
  with _members(folder / distribution.file, missing.keys()) as opened:
    for path, source in opened:
      missing.pop(path).append(source, report)
  if missing:
    raise manifest.ArtifactError(
      f"{distribution.label}: missing member: got no {sorted(missing)[0]!r} in "
      f"{distribution.file}, expected {len(unfinished)} members; correct "
      "`path` in artifacts.toml"
    )


@contextlib.contextmanager
def _members(
  distribution: pathlib.Path, wanted: Collection[str]
) -> Iterator[Iterator[tuple[str, io.BufferedIOBase]]]:
  """Opens an archive; yields its wanted files in the archive's order."""
  if distribution.name.endswith((".whl", ".zip")):
    with zipfile.ZipFile(distribution) as zipped:
      names = [name for name in zipped.namelist() if name in wanted]
      # Both modules' streams are buffered; the type stubs say less.
      yield ((n, cast(io.BufferedIOBase, zipped.open(n))) for n in names)
  else:
    with tarfile.open(distribution, "r:*") as tarred:
      # In one pass: going back in a compressed stream starts it anew.
      files = (i for i in tarred if i.isfile() and i.name in wanted)
      yield (
        (i.name, cast(io.BufferedIOBase, tarred.extractfile(i))) for i in files
      )
