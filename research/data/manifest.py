"""The table of outside models and data (`third_party/artifacts.toml`)."""

import dataclasses
import difflib
import pathlib
import tomllib
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
  """One file inside a distribution.

  Attributes:
    name: what `artifacts.fetch` calls it.
    path: its path inside the archive.
    sha256: hex digest of the unpacked file.
    bytes: size of the unpacked file.
  """

  name: str
  path: str
  sha256: str
  bytes: int

  @property
  def filename(self) -> str:
    """Path below the artifact's folder: the name, with the file's suffix."""
    return self.name + pathlib.PurePosixPath(self.path).suffix


@dataclasses.dataclass(frozen=True)
class Artifact:
  """One distribution file of a package registry.

  Attributes:
    name: the entry's own name.
    registry: whose client fetches it; only "pypi" so far.
    package: name in the registry.
    version: exact version.
    file: name of the distribution file.
    sha256: hex digest of that file.
    bytes: its size.
    licence: SPDX expression.
    notes: where the licence is discussed.
    used_by: experiments, tools and tests that need it.
    members: the files to unpack.
  """

  name: str
  registry: str
  package: str
  version: str
  file: str
  sha256: str
  bytes: int
  licence: str
  notes: str
  used_by: tuple[str, ...]
  members: tuple[Member, ...]

  @property
  def requirement(self) -> str:
    """The exact requirement, as package clients write it."""
    return f"{self.package}=={self.version}"


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
  artifact = Artifact(**fields)
  if artifact.registry != "pypi":
    raise ValueError(
      f"{artifact.name}: got registry {artifact.registry!r}, expected 'pypi'"
    )
  return artifact


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
