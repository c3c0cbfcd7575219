import dataclasses
import pathlib
from typing import Any

import numpy as np
import pytest

from research.runs import claims, files
from research.telemetry import bench

GOOD: dict[str, Any] = {
  "id": "law",
  "statement": "It is a law",
  "paper_value": "stated",
  "measured": 0.93,
  "unit": "R²",
  "kind": "measured",
  "scope": "paper",
  "holds": True,
}


def _result(*made: claims.Claim) -> claims.Result:
  row = bench.BenchResult(
    name="ours",
    unit="s",
    median=0.5,
    p25=0.4,
    p75=0.6,
    rounds_kept=7,
    rounds_dropped=1,
    ratio_to={"theirs": 1.5},
    limit=bench.Limit("bandwidth", 0.3),
  )
  return claims.Result(
    paper="toy", config={"size": "smoke"}, claims=made, bench=(row,)
  )


@pytest.mark.parametrize(
  ("field", "value", "expected"),
  [
    ("kind", "guessed", "one of measured, recorded, compiled, modelled"),
    ("scope", "all", "one of paper, mechanism, beyond"),
    ("statement", " ", "a text"),
    ("id", "", "a text"),
    ("measured", float("nan"), "a finite number, a text or None"),
    ("paper_value", float("inf"), "a finite number, a text or None"),
    ("measured", True, "a finite number, a text or None"),
    ("measured", None, "None, because nothing was measured"),
    ("interval", (2.0, 1.0), "two finite, ordered numbers"),
    ("interval", (0.0, float("nan")), "two finite, ordered numbers"),
  ],
)
def test_a_wrong_field_is_named(field: str, value: object, expected: str):
  with pytest.raises(Exception) as caught:  # noqa: PT011
    claims.Claim(**GOOD | {field: value})
  if isinstance(caught.value, claims.ClaimError):
    text = str(caught.value)
    assert text.startswith(
      f"claim '{GOOD['id'] if field != 'id' else ''}': got"
    )
    assert f"expected {expected}; mend it where" in text
  else:  # the type hook was faster
    assert field in ("kind", "scope")


def test_verdicts_are_python_bools():
  with pytest.raises(Exception, match="holds"):
    claims.Claim(**GOOD | {"holds": np.True_})


def test_not_judged_needs_no_number():
  claim = claims.Claim(**GOOD | {"measured": None, "holds": None})
  assert claim.holds is None


def test_a_result_survives_its_file(tmp_path: pathlib.Path):
  with_interval = claims.Claim(
    **GOOD | {"id": "b", "interval": (0.9, 0.95), "note": "n"}
  )
  result = _result(claims.Claim(**GOOD), with_interval)
  claims.save(result, tmp_path / "result.json")
  assert claims.load(tmp_path / "result.json") == result
  data = files.read_json(tmp_path / "result.json")
  assert list(data) == ["paper", "config", "claims", "bench"]
  assert data["claims"][0] | GOOD == data["claims"][0]


def test_two_claims_of_one_id():
  claim = claims.Claim(**GOOD)
  with pytest.raises(claims.ClaimError, match="two claims with the id 'law'"):
    _result(claim, claim)


def test_what_json_cannot_hold_is_one_line(tmp_path: pathlib.Path):
  result = dataclasses.replace(_result(), config={"size": float("nan")})
  with pytest.raises(claims.ClaimError, match="got a value that JSON cannot"):
    claims.save(result, tmp_path / "result.json")
  assert not (tmp_path / "result.json").exists()


@pytest.mark.parametrize("text", ["{", "{}", '{"paper": 1}'])
def test_a_broken_result_file(tmp_path: pathlib.Path, text: str):
  (tmp_path / "result.json").write_text(text)
  with pytest.raises(claims.ClaimError, match="got no result that can be read"):
    claims.load(tmp_path / "result.json")


def test_recorded_claims_say_where_they_come_from(tmp_path: pathlib.Path):
  modelled = claims.Claim(
    **GOOD | {"id": "m", "kind": "modelled", "note": "see inputs"}
  )
  claims.save(_result(claims.Claim(**GOOD), modelled), tmp_path / "result.json")
  run = {"commit": "0123456789abcdef", "started": "2026-11-22T20:00:00+00:00"}
  files.write_json(tmp_path / "run.json", run)
  measured, model = claims.recorded(tmp_path).claims
  assert measured.kind == "recorded"
  assert measured.note == "recorded at 0123456789 on 2026-11-22"
  assert model.kind == "modelled"
  assert model.note == "see inputs; recorded at 0123456789 on 2026-11-22"
