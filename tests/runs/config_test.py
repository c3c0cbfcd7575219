import dataclasses
import enum
import pathlib
from typing import Any

import pytest

from research.runs import config, errors

_GOOD = '''"""A title.

Paper: arXiv 1234.56789,
  "A study"
Command: python -m x.main \\
  --config=a.py
Expected: 1.5 minutes, 2 GB on 2 cores
Paper's value: 42 ms
"""
raise RuntimeError("describe must not run this")
'''


def _file(folder: pathlib.Path, text: str) -> pathlib.Path:
  path = folder / "laptop.py"
  path.write_text(text)
  return path


def test_describe_reads_each_heading_on_one_line(tmp_path: pathlib.Path):
  header = config.describe(_file(tmp_path, _GOOD))
  assert header.paper == 'arXiv 1234.56789, "A study"'
  assert header.command == "python -m x.main --config=a.py"
  assert header.expected == "1.5 minutes, 2 GB on 2 cores"
  assert header.paper_value == "42 ms"
  assert header.minutes == 1.5


@pytest.mark.parametrize(
  ("expected", "minutes"),
  [("90 seconds", 1.5), ("2 hours on a GPU", 120.0), ("20 s", 1 / 3)],
)
def test_describe_understands_units(
  tmp_path: pathlib.Path, expected: str, minutes: float
):
  text = _GOOD.replace("1.5 minutes, 2 GB on 2 cores", expected)
  found = config.describe(_file(tmp_path, text)).minutes
  assert found == pytest.approx(minutes)


@pytest.mark.parametrize("heading", config.HEADINGS)
def test_describe_names_the_missing_heading(
  tmp_path: pathlib.Path, heading: str
):
  path = _file(tmp_path, _GOOD.replace(f"{heading}:", "Else:"))
  with pytest.raises(errors.UserError) as caught:
    config.describe(path)
  assert str(caught.value) == (
    f"{path}: got a docstring without '{heading}:', expected the headings "
    f"Paper, Command, Expected, Paper's value; add a line '{heading}: ...'"
  )


def test_describe_wants_a_time(tmp_path: pathlib.Path):
  path = _file(tmp_path, _GOOD.replace("1.5 minutes, 2 GB", "soon"))
  with pytest.raises(errors.UserError, match="expected a time in it"):
    config.describe(path)


def test_describe_of_no_file(tmp_path: pathlib.Path):
  with pytest.raises(errors.UserError, match="got no readable file"):
    config.describe(tmp_path / "none.py")


class Colour(enum.Enum):
  RED = "red"


@dataclasses.dataclass(kw_only=True)
class Inner:
  widths: tuple[int, ...] = (1, 2)
  colour: Colour = Colour.RED


@dataclasses.dataclass(kw_only=True)
class Outer(config.ExperimentConfig):
  inner: Inner = dataclasses.field(default_factory=Inner)
  path: pathlib.Path | None = pathlib.Path("a/b")
  options: dict[str, float] = dataclasses.field(
    default_factory=lambda: {"a": 1.0}
  )
  extra: Any = None


def test_to_dict_flattens_to_plain_data():
  assert config.to_dict(Outer()) == {
    "size": "laptop",
    "seed": 0,
    "profile": False,
    "inner": {"widths": [1, 2], "colour": "red"},
    "path": "a/b",
    "options": {"a": 1.0},
    "extra": None,
  }


def test_to_dict_names_the_field_it_cannot_write():
  with pytest.raises(errors.UserError) as caught:
    config.to_dict(Outer(extra=[print]))
  assert "config field 'extra[0]': got a builtin_function" in str(caught.value)


def test_first_difference_names_the_nested_field():
  left = config.to_dict(Outer())
  right = config.to_dict(Outer(inner=Inner(widths=(1, 3))))
  assert config.first_difference(left, left) is None
  assert config.first_difference(left, right) == (
    "inner.widths",
    [1, 2],
    [1, 3],
  )


def test_first_difference_sees_fields_that_one_side_lacks():
  assert config.first_difference({"a": 1}, {"a": 1, "b": 2}) == ("b", None, 2)
