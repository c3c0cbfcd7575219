"""Golden claims: a claim that flips must be explained before CI is green."""

import pathlib
from typing import Any

from research.runs import claims, files


def check_golden(result: claims.Result, path: pathlib.Path) -> list[str]:
  """Compares a result with the committed answers for its config.

  Claims that depend on time are left out. A claim whose golden entry does not
  hold needs an `explanation` there.

  Args:
    result: what just ran.
    path: `{size: {claim id: {"holds": ..., "explanation": ...}}}`.

  Returns:
    One line for each flip, missing entry or missing explanation; empty when
    all is well.
  """
  golden = _read(path).get(_size(result), {})
  found = _entries(result)
  where = f"{path.name} ({_size(result)})"
  lines = []
  for claim_id in dict.fromkeys((*golden, *found)):
    if claim_id not in found:
      lines.append(f"{where}: claim '{claim_id}' is gone from the result")
      continue
    got = found[claim_id]["holds"]
    if claim_id not in golden:
      lines.append(f"{where}: claim '{claim_id}' is new, holds={got}")
      continue
    want = golden[claim_id]["holds"]
    if got != want:
      lines.append(
        f"{where}: claim '{claim_id}' flipped, got holds={got}, expected "
        f"{want}; mend it, or set it there with an explanation"
      )
    elif want is not True and not golden[claim_id]["explanation"].strip():
      lines.append(
        f"{where}: claim '{claim_id}' has holds={want} and no explanation; "
        "write there why"
      )
  return lines


def update_golden(result: claims.Result, path: pathlib.Path) -> None:
  """Writes a result's answers to the golden file, for `--update-golden`.

  An explanation stays where the answer stayed the same; a flipped claim loses
  its old one, so that `check_golden` asks for a new one.

  Args:
    result: what just ran.
    path: the golden file; other configs in it are left alone.
  """
  golden = _read(path)
  before = golden.get(_size(result), {})
  entries = _entries(result)
  for claim_id, entry in entries.items():
    old = before.get(claim_id)
    if old and old["holds"] == entry["holds"]:
      entry["explanation"] = old["explanation"]
  files.write_json(path, golden | {_size(result): entries})


def _entries(result: claims.Result) -> dict[str, dict[str, Any]]:
  return {
    claim.id: {"holds": claim.holds, "explanation": ""}
    for claim in result.claims
    if not claim.time_dependent
  }


def _read(path: pathlib.Path) -> dict[str, Any]:
  return files.read_json(path) if path.exists() else {}


def _size(result: claims.Result) -> str:
  return result.config["size"]
