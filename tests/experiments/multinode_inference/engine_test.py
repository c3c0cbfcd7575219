"""What is claimed of the engine follows from what a job wrote."""

import json

import pytest

from experiments import emulated_links
from experiments.multinode_inference import (
  engine_claims,
  engine_config,
  engine_figures,
  engine_study,
)
from experiments.multinode_inference.configs import smoke
from research import runs
from research.runs import errors
from tests.experiments import binary
from tests.experiments.multinode_inference import made_up

_MILLISECONDS = {
  "tp:nvrar": 100,
  "tp:recursive_doubling": 120,
  "tp:rabenseifner": 130,
  "tp:ring": 200,
  "tp:xla": 180,
  "hybrid:recursive_doubling": 150,
  "pp:xla": 170,
}


def _seconds(kind: str, case: str) -> float:
  """Hybrid is the fastest where prompts are long."""
  fast = kind == "prefill" and case.startswith("hybrid")
  return (80 if fast else _MILLISECONDS[case]) / 1e3


@pytest.fixture
def study(tmp_path, monkeypatch):
  """Runs a study of jobs that write what they are told to."""
  context = runs.Context(runs.Workdir(tmp_path))

  def run(jobs, seconds=_seconds, **how):
    left = list(jobs)
    write = lambda _: made_up.answers(left.pop(0), seconds, **how)
    monkeypatch.setattr(emulated_links, "answer", write)
    return engine_study.run(jobs, context, seed=0)

  return run


def _judged(jobs, found) -> dict[str, runs.Claim]:
  return {c.id: c for c in engine_claims.judge(jobs, found)}


def test_what_is_ahead_by_far_is_confirmed(study):
  jobs = (made_up.job(),)
  claims = _judged(jobs, study(jobs))
  measured = {
    "engine-decode-nvrar": 1.2,
    "engine-decode-nvrar-over-ring": 2.0,
    "engine-decode-tp": 1.5,
    "engine-prefill-hybrid": 1.25,
    "engine-decode-in-all-reduces": 0.6,
  }
  for name, value in measured.items():
    assert claims[name].measured == pytest.approx(value, rel=1e-6)
    assert claims[name].holds is True
    assert "emulated links (4x1," in claims[name].statement
  assert "tp recursive_doubling" in claims["engine-decode-nvrar"].note
  assert claims["engine-answers-equal"].holds is True


@pytest.mark.parametrize(
  ("kind", "case", "claim"),
  [
    ("decode", "tp:rabenseifner", "engine-decode-nvrar"),
    ("decode", "pp:xla", "engine-decode-tp"),
    ("decode", "hybrid:recursive_doubling", "engine-decode-tp"),
    ("prefill", "tp:xla", "engine-prefill-hybrid"),
  ],
)
def test_one_faster_rival_at_one_batch_refutes(study, kind, case, claim):
  jobs = made_up.job(), made_up.job(batch=64)
  times = {}

  def seconds(at, name):
    seen = times[at, name] = times.get((at, name), 0) + 1
    planted = (at, name) == (kind, case) and seen == 2
    return 0.05 if planted else _seconds(at, name)

  claims = _judged(jobs, study(jobs, seconds))
  refuted = {name for name, one in claims.items() if one.holds is False}
  assert refuted == {claim}


def test_the_other_kind_of_work_does_not_count(study):
  jobs = (made_up.job(),)
  slow = lambda kind, case: 1.0 if kind == "prefill" else _seconds(kind, case)
  claims = _judged(jobs, study(jobs, slow))
  assert claims["engine-decode-nvrar"].holds is True
  assert claims["engine-prefill-hybrid"].holds is False


def test_networks_are_apart(study):
  fast = "4x1,alpha=5ms,bw=10Gb"
  jobs = made_up.job(), made_up.job(network=fast)
  claims = _judged(jobs, study(jobs))
  assert len(claims) == 11
  assert fast in claims["engine-decode-tp.links-2"].statement


def test_what_a_neighbour_disturbed_is_not_judged(study):
  jobs = (made_up.job(),)
  claims = _judged(jobs, study(jobs, free_cores=(2.0,) * 4 + (1.0,) * 2))
  for claim in claims.values():
    assert claim.holds is (None if claim.time_dependent else True)


def test_little_time_in_all_reduces_refutes(study):
  jobs = made_up.job(), made_up.job(batch=64)
  share = lambda job: 0.49 if job.batch == 64 else 0.9
  claim = _judged(jobs, study(jobs, share=share))[
    "engine-decode-in-all-reduces"
  ]
  assert (claim.holds, claim.measured) == (False, pytest.approx(0.49))


def test_one_other_token_refutes(study):
  jobs = (made_up.job(),)
  claims = _judged(jobs, study(jobs, different=1))
  assert claims["engine-answers-equal"].holds is False
  assert claims["engine-answers-equal"].measured == 14


def test_without_links_only_answers_are_judged(tmp_path, monkeypatch):
  job = made_up.job(rounds=2)
  asked = []

  def answer(command):
    asked.append(command)
    if "--network=4x1,alpha=1ms,bw=1Gb" in command:
      raise emulated_links.UnavailableError("skipped, no links")
    return made_up.answers(job, _seconds)

  monkeypatch.setattr(emulated_links, "answer", answer)
  context = runs.Context(runs.Workdir(tmp_path))
  found = engine_study.run((job,), context, seed=0)
  claims = _judged((job,), found)
  assert asked[1][2:4] == ["-n", "4"]
  assert len(asked) == 2  # plain processes give no times: once is enough
  for claim in claims.values():
    assert claim.holds is (None if claim.time_dependent else True)
    if claim.time_dependent:
      assert claim.note == "not judged: skipped, no links"
  engine_figures.draw(found, context)
  assert engine_study.bench_rows(found) == ()
  assert not (tmp_path / "figures").exists()


def test_rounds_are_pooled_and_kept(study, tmp_path):
  job = made_up.job(rounds=2)
  found = study((job, job))  # its second round is the second one's answer
  [decode] = found.of(job.network, "decode")[:1]
  assert len(decode.network.cells["tp nvrar", decode.size].times_us) == 24
  again = engine_study.run(
    (job,), runs.Context(runs.Workdir(tmp_path)), seed=0
  )  # nothing is left to be answered
  assert again.of(job.network, "decode")[0].cases == decode.cases
  rows = engine_study.bench_rows(again)
  assert len(rows) == 14
  assert rows[0].name == "a model, 16 requests of 128+2 tokens, tp nvrar"


def test_a_figure_a_job(study, tmp_path):
  jobs = made_up.job(), made_up.job(drawing="")
  context = runs.Context(runs.Workdir(tmp_path))
  engine_figures.draw(study(jobs), context)
  names = sorted(path.name for path in (tmp_path / "figures").iterdir())
  assert names == ["01-engine-1.svg", "02-engine-2.svg"]


@pytest.mark.parametrize(
  ("fields", "message"),
  [
    ({"network": "1x2,alpha=1ms,bw=1Gb"}, "expected two nodes at least"),
    ({"cases": ("dp:xla",)}, "got the case 'dp:xla', expected one of tp, pp"),
    ({"cases": ("tp:nvra",)}, "algorithm for all_reduce: got 'nvra'"),
    ({"reading": "12"}, "got the work '12', expected tokens to read"),
    ({"reading": "", "drawing": ""}, "got no work, expected reading"),
    ({"warmup": 0}, "got iters=12, warmup=0, expected a multiple of 2"),
  ],
)
def test_bad_settings_have_one_line(fields, message):
  config = smoke.get_config()
  config.engine = (made_up.job(**fields),)
  with pytest.raises(errors.UserError) as raised:
    config.check()
  assert str(raised.value).startswith("engine a model: ")
  assert message in str(raised.value)
  assert "\n" not in str(raised.value)


@pytest.mark.slow
def test_two_processes_on_links_answer_a_batch(tmp_path):
  config = "--config=experiments/multinode_inference/configs/smoke.py:engine"
  done = binary.run("multinode_inference", tmp_path, config)
  assert done.returncode == 0, done.stderr
  result = json.loads((tmp_path / "result.json").read_text())
  claims = {claim["id"]: claim for claim in result["claims"]}
  assert claims["engine-answers-equal"]["holds"] is True
  [job] = smoke.get_config("engine").engine
  assert isinstance(job, engine_config.Job)
  if "cannot be emulated" not in claims["engine-decode-tp"]["note"]:
    rows = [row for row in result["bench"] if job.name in row["name"]]
    assert len(rows) == len(job.cases)
    assert list((tmp_path / "figures").glob("*-engine-1.svg"))
