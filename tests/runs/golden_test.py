import pathlib

from research.runs import claims, files, golden


def _result(size: str = "smoke", **verdicts: bool | None) -> claims.Result:
  made = tuple(
    claims.Claim(
      id=name,
      statement=name,
      paper_value=None,
      measured=1.0,
      kind="measured",
      scope="paper",
      holds=holds,
      time_dependent=name.startswith("time"),
    )
    for name, holds in verdicts.items()
  )
  return claims.Result(paper="toy", config={"size": size}, claims=made)


def test_the_same_answers_pass(tmp_path: pathlib.Path):
  path = tmp_path / "toy.json"
  golden.update_golden(_result(a=True, time_b=False), path)
  assert golden.check_golden(_result(a=True, time_b=True), path) == []


def test_a_flip_is_named(tmp_path: pathlib.Path):
  path = tmp_path / "toy.json"
  golden.update_golden(_result(a=True, b=True), path)
  assert golden.check_golden(_result(a=True, b=False), path) == [
    "toy.json (smoke): claim 'b' flipped, got holds=False, expected True; "
    "mend it, or set it there with an explanation"
  ]


def test_a_claim_that_fails_needs_an_explanation(tmp_path: pathlib.Path):
  path = tmp_path / "toy.json"
  result = _result(a=False, b=None)
  golden.update_golden(result, path)
  assert golden.check_golden(result, path) == [
    "toy.json (smoke): claim 'a' has holds=False and no explanation; write "
    "there why",
    "toy.json (smoke): claim 'b' has holds=None and no explanation; write "
    "there why",
  ]
  data = files.read_json(path)
  data["smoke"]["a"]["explanation"] = "the model is too small"
  data["smoke"]["b"]["explanation"] = "needs a GPU"
  files.write_json(path, data)
  assert golden.check_golden(result, path) == []

  golden.update_golden(result, path)  # the same answers: explanations stay
  assert golden.check_golden(result, path) == []
  golden.update_golden(_result(a=True, b=False), path)  # b now fails anew
  assert len(golden.check_golden(_result(a=True, b=False), path)) == 1


def test_new_and_lost_claims_are_named(tmp_path: pathlib.Path):
  path = tmp_path / "toy.json"
  golden.update_golden(_result(a=True), path)
  assert golden.check_golden(_result(b=True), path) == [
    "toy.json (smoke): claim 'a' is gone from the result",
    "toy.json (smoke): claim 'b' is new, holds=True",
  ]


def test_sizes_are_kept_apart(tmp_path: pathlib.Path):
  path = tmp_path / "toy.json"
  golden.update_golden(_result("smoke", a=True), path)
  golden.update_golden(_result("laptop", a=True), path)
  assert set(files.read_json(path)) == {"smoke", "laptop"}
  assert golden.check_golden(_result("smoke", a=True), path) == []
  assert golden.check_golden(_result("full", a=True), path) == [
    "toy.json (full): claim 'a' is new, holds=True"
  ]
