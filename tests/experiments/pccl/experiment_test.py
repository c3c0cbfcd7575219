"""The experiment as a user runs it."""

import dataclasses
import json

import pytest

from experiments import emulated_links
from experiments.pccl import config as config_lib
from experiments.pccl import study
from experiments.pccl.configs import full, laptop, smoke
from research import runs
from research.runs import claims as ledger
from research.runs import errors
from tests.experiments import binary
from tests.experiments.pccl import made_up

SLUG = "pccl"


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
  """A finished smoke run."""
  return binary.finished(SLUG, tmp_path_factory)


def test_leaves_what_the_contract_names(finished):
  for name in ("config.json", "run.json", "result.json"):
    assert (finished / name).stat().st_size > 0
  names = {path.name[3:] for path in (finished / "figures").glob("*.svg")}
  assert {"bytes.svg", "modelled-ring-or-recursive.svg"} <= names
  result = ledger.load(finished / "result.json")
  if any("links cannot be emulated" in claim.note for claim in result.claims):
    return
  assert names > {
    "latency-all-gather-2x1-1ms-1Gb.svg",
    "speed-up.svg",
    "steps.svg",
  }
  sweep, steps = smoke.get_config().sweeps[0], smoke.get_config().training
  calls = len(sweep.names) * len(sweep.sizes)
  assert len(result.bench) == calls + len(steps.cases)
  for row in result.bench:
    assert "over emulated links" in row.meta["transport"]


def test_claims_are_golden(finished, request):
  result = binary.golden_claims(SLUG, finished, request)
  for claim in result.claims:  # too few calls to judge a time by
    assert claim.holds is None or not claim.time_dependent


def test_without_links_it_trains_on_plain_processes(tmp_path, monkeypatch):
  def answer(command):
    if any(word.startswith("--network") for word in command):
      raise emulated_links.UnavailableError("skipped, no links")
    assert command[command.index("-n") + 1] == "2"
    cases = [dataclasses.asdict(one) for [one] in made_up.trained().values()]
    return {"rows": [], "cases": json.loads(json.dumps(cases))}

  monkeypatch.setattr(emulated_links, "answer", answer)
  context = runs.Context(runs.Workdir(tmp_path))
  result = study.run(smoke.get_config(), context)
  for claim in result.claims:
    assert (claim.holds is None) == claim.time_dependent
    if claim.time_dependent:
      assert claim.note == "not judged: skipped, no links"
  assert result.bench == ()
  figures = sorted(path.name for path in (tmp_path / "figures").iterdir())
  assert figures == [
    "01-bytes.svg",
    "02-modelled-scaling.svg",
    "03-modelled-over-vendors.svg",
    "04-modelled-ring-or-recursive.svg",
  ]


def test_every_config_fits_together():
  for module in (smoke, laptop, full):
    config = module.get_config()
    config.check()
    assert config.headline in study.rehearse(config)


@pytest.mark.parametrize(
  ("change", "words"),
  [
    ({"algorithms": ("nvrar",)}, "sweeps: algorithm for all_gather: got 'nvr"),
    ({"iters": 5}, "sweeps.iters: got 5, expected a multiple of 2"),
    ({"sizes": ()}, "sweeps: got '4x2,alpha=1ms,bw=1Gb' and sizes ()"),
    ({"network": "1x2,alpha=1ms,bw=1Gb"}, "expected two nodes at least"),
  ],
)
def test_sweeps_that_do_not_fit_are_refused(change, words):
  config = made_up.config()
  for key, value in change.items():
    setattr(config.sweeps[0], key, value)
  with pytest.raises(errors.UserError) as error:
    config.check()
  assert words in str(error.value)


@pytest.mark.parametrize(
  ("cases", "words"),
  [
    (("fsdp:ring",), "training.cases: got 'fsdp:ring', expected ddp or zero3"),
    (("zero3:nvrar",), "training.cases: zero3:nvrar: algorithm for all_gather"),
    (("ddp:recursive",), "training.cases: ddp:recursive: algorithm for all_re"),
  ],
)
def test_cases_that_do_not_exist_are_refused(cases, words):
  training = config_lib.Training(network=made_up.NETWORK, cases=cases)
  with pytest.raises(errors.UserError) as error:
    training.check()
  assert words in str(error.value)


def test_a_sweep_twice_is_refused():
  config = made_up.config()
  config.sweeps *= 2
  with pytest.raises(errors.UserError, match="expected one at least and each"):
    config.check()
