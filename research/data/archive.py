"""Unpacks chosen members of a distribution file, verified and atomically."""

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
  distribution: pathlib.Path,
  artifact: manifest.Artifact,
  folder: pathlib.Path,
  *,
  report: Callable[[int], None],
) -> None:
  """Unpacks every member into `folder`; other files stay in the archive.

  Each is written beside its place, compared with its hash, flushed to disk
  and renamed, so that a reader sees the whole file or none.

  Args:
    distribution: a wheel, zip or tar.gz.
    artifact: its entry.
    folder: where the members go, under `Member.filename`.
    report: called with the bytes unpacked since the last call.

  Raises:
    ArtifactError: a member is missing or differs from its hash.
    OSError: the files cannot be written.
  """
  missing = {member.path: member for member in artifact.members}
  with _members(distribution, missing.keys()) as opened:
    for path, source in opened:
      member = missing.pop(path)
      _write(source, member, artifact, folder / member.filename, report)
  if missing:
    raise manifest.ArtifactError(
      f"{artifact.name}: missing member: got no {sorted(missing)[0]!r} in "
      f"{distribution.name}, expected {len(artifact.members)} members; correct "
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


def _write(
  source: io.BufferedIOBase,
  member: manifest.Member,
  artifact: manifest.Artifact,
  target: pathlib.Path,
  report: Callable[[int], None],
) -> None:
  target.parent.mkdir(parents=True, exist_ok=True)
  part = target.with_name(target.name + ".part")
  digest = hashlib.sha256()
  try:
    with source, part.open("wb") as file:
      while block := source.read(_BLOCK_BYTES):
        file.write(block)
        digest.update(block)
        report(len(block))
      file.flush()
      os.fsync(file.fileno())
    if digest.hexdigest() != member.sha256:
      raise manifest.ArtifactError(
        f"{artifact.name}: wrong hash of member {member.path!r}: got sha256 "
        f"{digest.hexdigest()}, expected {member.sha256}; correct it in "
        "artifacts.toml"
      )
    part.replace(target)
  finally:
    part.unlink(missing_ok=True)
