"""The experiment as a user runs it, and how the law's claims are judged."""

import json
import shutil
import signal
import subprocess
import time

import numpy as np
import pytest

from experiments.sift_attention import config as config_lib
from experiments.sift_attention import law_analysis as analysis
from experiments.sift_attention import law_claims as claims
from research import runs
from research.data import artifacts
from research.systems.sift_attention import power_law
from research.telemetry import metrics, xplane
from tests.experiments import binary

SLUG = "sift_attention"


@pytest.fixture(scope="module", autouse=True)
def _weights():
  try:
    artifacts.fetch("smollm2-135m-instruct-q4_1", progress=False)
    artifacts.fetch("shakespeare/hamlet", progress=False)
  except artifacts.ArtifactError as error:
    pytest.skip(str(error))


@pytest.fixture(scope="module")
def smoke(tmp_path_factory):
  """A finished smoke run."""
  return binary.finished(SLUG, tmp_path_factory)


@pytest.fixture(scope="module")
def resumed(smoke, tmp_path_factory):
  """A run that was killed after a window and run again, with a trace.

  A trace of the whole run takes longer than the run, so most of what comes
  after the windows is done already.
  """
  workdir = tmp_path_factory.mktemp("resumed")
  for stage in ("check", "quality"):
    shutil.copytree(smoke / "units" / stage, workdir / "units" / stage)
  max(workdir.glob("units/quality/*")).unlink()
  command = binary.command(SLUG, workdir, "--config.profile=True")
  process = subprocess.Popen(
    command, cwd=binary.ROOT, stdout=subprocess.DEVNULL
  )
  while not list(workdir.glob("units/windows/*.npz")):
    assert process.poll() is None
    time.sleep(0.02)
  process.send_signal(signal.SIGKILL)
  process.wait()
  assert not (workdir / "result.json").exists()
  done = binary.run(SLUG, workdir, "--config.profile=True")
  assert done.returncode == 0, done.stderr
  return workdir


def test_leaves_what_the_contract_names(smoke):
  for name in ("config.json", "run.json", "metrics.jsonl", "result.json"):
    assert (smoke / name).stat().st_size > 0
  assert list(smoke.glob("events.out.tfevents*"))
  figures = sorted(path.name for path in (smoke / "figures").glob("*.svg"))
  assert len(figures) == 8


def test_the_trace_holds_our_scopes(resumed):
  assert list(resumed.rglob("*perfetto*"))
  scopes = xplane.scope_seconds(resumed / "profile")
  assert any("layer_0/attention" in scope for scope in scopes)


def test_claims_are_golden(smoke, request):
  binary.golden_claims(SLUG, smoke, request)


def test_the_model_reads_english(smoke):
  """Trap: random weights also give a law; these predict the text."""
  rows = metrics.read(smoke / metrics.FILE_NAME)
  nll = [row["values"]["text/nll_nats"] or np.inf for row in rows]
  assert len(nll) == 2
  assert max(nll) < 4.5  # guessing costs log 49,152 = 10.8


def test_resumes_after_sigkill_to_the_same_result(smoke, resumed):
  for unit in smoke.glob("units/*/*.npz"):
    again = resumed / unit.relative_to(smoke)
    assert again.read_bytes() == unit.read_bytes()
  whole, after = (
    json.loads((folder / "result.json").read_text())["claims"]
    for folder in (smoke, resumed)
  )
  assert after == whole


def test_quality_has_a_unit_for_each_policy_and_window(smoke):
  assert len(list(smoke.glob("units/quality/*.npz"))) == 4 * 2


def test_bad_settings_have_one_line(tmp_path):
  done = binary.run(SLUG, tmp_path, "--config.headline_level=0.3")
  assert done.returncode == 2
  assert "headline_level: got 0.3, expected one of levels=" in done.stderr
  assert "Traceback" not in done.stderr


def _findings(log_theta, **fields):
  """Findings of made-up windows `[window, layer, head, level, row]`."""
  config = config_lib.Config(
    window_size=64, warmups=(16, 32), headline_warmup=32, **fields
  )
  steps = np.arange(1, 65)
  found = analysis.analyse(
    config,
    steps=steps,
    log_theta=log_theta,
    texts=["a", "a", "b"],
    check=log_theta[0],
  )
  return config, found


def _law(beta, noise, seed=0):
  generator = np.random.default_rng(seed)
  steps = np.arange(1, 65)
  return -beta * np.log(steps) + noise * generator.standard_normal(
    (3, 2, 16, 4, 64)
  )


def _verdicts(config, found):
  return {claim.id: claim.holds for claim in claims.judge(config, found)}


def test_heads_that_obey_are_confirmed():
  verdicts = _verdicts(*_findings(_law(1.4, noise=0.01)))
  assert verdicts["average-law"]
  assert verdicts["head-law"]
  assert verdicts["beta-not-one"]
  assert verdicts["beats-null"]
  assert verdicts["warmup-suffices"]
  assert not verdicts["beta-falls"]


def test_trap_04_noise_fails_the_heads_and_not_the_average():
  """Trap: an average over heads must not stand for the heads."""
  verdicts = _verdicts(*_findings(_law(1.4, noise=0.7)))
  assert verdicts["average-law"]
  assert not verdicts["head-law"]
  assert not verdicts["warmup-suffices"]


def test_trap_03_scores_of_constant_shape_do_not_beat_the_null():
  """Trap: theta ~ 1/S follows from the softmax alone."""
  verdicts = _verdicts(*_findings(_law(1.0, noise=0.5)))
  assert not verdicts["beta-not-one"]
  assert not verdicts["beats-null"]


def test_one_text_cannot_show_consistency():
  config, found = _findings(_law(1.4, noise=0.01))
  found.texts[:] = ["a", "a", "a"]
  assert _verdicts(config, found)["consistent"] is None


def test_trap_17_no_paper_figure_is_quoted():
  """Trap: only the abstract was verified, so no number is the paper's."""
  for claim in claims.judge(*_findings(_law(1.4, noise=0.01))):
    assert isinstance(claim, runs.Claim)
    assert not isinstance(claim.paper_value, int | float)


def test_fits_start_at_the_first_fitted_step():
  log_theta = _law(1.4, noise=0.0)
  log_theta[..., :10] = 5.0  # what a handful of scores does is not judged
  _, found = _findings(log_theta)
  np.testing.assert_allclose(found.heads.beta, 1.4, atol=1e-6)
  assert power_law.fit(log_theta[0, 0, 0, 0], np.arange(1, 65)).beta > 1.5
