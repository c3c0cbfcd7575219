"""What the pages for readers say is so."""

import importlib.util
import pathlib
import re
import runpy
import tomllib

import jax
import numpy as np
import pytest
import yaml

from experiments import papers
from tests.workspace import markdown

_ROOT = pathlib.Path(__file__).resolve().parents[2]
_README = (_ROOT / "README.md").read_text(encoding="utf-8")


def test_links_lead_somewhere(files, root):
  """Links to other sites are left to the reader."""
  broken = []
  for page in files:
    if page.suffix != ".md" or "golden" in page.parts:
      continue
    text = page.read_text(encoding="utf-8")
    for link in markdown.links(text):
      if "://" in link:
        continue
      name, _, anchor = link.partition("#")
      target = page.parent / name if name else page
      found = target.exists() and (
        not anchor or anchor in markdown.anchors(target.read_text())
      )
      if not found:
        broken.append(f"{page.relative_to(root)}: {link}")
  assert not broken


def test_readme_lists_the_papers():
  rows = markdown.table(_README, "## The ten papers")
  assert len(rows) == 10
  for row, paper in zip(rows, papers.PAPERS, strict=True):
    assert markdown.names(row["slug"]) == [paper.slug]
    assert row["paper"] == paper.title
    address = f"https://arxiv.org/abs/{paper.arxiv}"
    assert row["arXiv"] == f"[{paper.arxiv}]({address})"
    assert (row["status"] == "planned") == (paper.status == "planned")


def test_readme_examples_run(tmp_path, capsys):
  generate, reduce = markdown.code(_README, "python")
  file, names = tmp_path / "example.py", {}
  for example in (generate, reduce):
    file.write_text(example)
    names = runpy.run_path(str(file))
  numbers = np.arange(8.0 * jax.device_count())
  np.testing.assert_array_equal(
    names["total"], numbers.reshape(jax.device_count(), -1).sum(0)
  )
  lines = capsys.readouterr().out.splitlines()
  assert len(lines) == 4
  for line in lines:
    assert re.fullmatch(r"\[ *\d+ +\d+\]", line)


def _commands() -> list[str]:
  """The shell lines of the pages that tell a reader what to type."""
  pages = (_ROOT / "README.md", _ROOT / "CONTRIBUTING.md")
  text = "".join(page.read_text(encoding="utf-8") for page in pages)
  lines = [
    line for block in markdown.code(text, "sh") for line in block.split("\n")
  ]
  lines += re.findall(r"`(make [^`]+|\S*python -m [^`]+)`", text)
  return [line for line in lines if line]


@pytest.mark.parametrize("command", sorted(set(_commands())))
def test_commands_can_be_typed(command: str):
  program, *rest = command.split()
  if program == "make":
    makefile = (_ROOT / "Makefile").read_text()
    assert re.search(rf"^{rest[0]}:", makefile, re.M)
    return
  assert program == ".venv/bin/python"
  module = rest[1]
  spec = importlib.util.find_spec(module)
  assert spec
  assert spec.origin
  source = pathlib.Path(spec.origin).read_text(encoding="utf-8")
  for flag in re.findall(r"--(\w+)", command):
    assert re.search(rf'"(--)?{flag}"', source)
  for path in re.findall(r"tests/\S+", command):
    assert (_ROOT / path).exists()


def test_flags_named_in_the_readme_exist():
  source = (_ROOT / "experiments" / "tools" / "generate.py").read_text()
  section = _README.split("## Generate text")[1].split("\n## ")[0]
  flags = set(re.findall(r"--(\w+)", section))
  assert len(flags) > 5
  for flag in flags:
    assert f'"{flag}"' in source


def test_citation_is_valid_and_of_this_version():
  citation = yaml.safe_load((_ROOT / "CITATION.cff").read_text())
  project = tomllib.loads((_ROOT / "pyproject.toml").read_text())["project"]
  assert citation["cff-version"] == "1.2.0"
  assert citation["message"]
  assert citation["type"] == "software"
  assert citation["version"] == project["version"]
  assert citation["license"] == project["license"]
  assert [author["name"] for author in citation["authors"]] == [
    author["name"] for author in project["authors"]
  ]


def test_changelog_has_a_section_for_what_is_next():
  text = (_ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
  titles = re.findall(r"^## (.*)$", text, re.M)
  assert titles[0] == "Unreleased"


def test_licence_is_apache_2():
  text = (_ROOT / "LICENSE").read_text(encoding="utf-8")
  assert "Version 2.0, January 2004" in text
  assert "END OF TERMS AND CONDITIONS" in text
