"""The experiment as a user runs it."""

import json

import numpy as np
import pytest

from experiments import emulated_links
from experiments.multinode_inference import accuracy, collectives_study
from experiments.multinode_inference import config as config_lib
from experiments.multinode_inference.configs import full, laptop, smoke
from research import runs
from research.runs import claims as ledger
from research.runs import errors
from tests.experiments import binary

SLUG = "multinode_inference"


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
  """A finished smoke run."""
  return binary.finished(SLUG, tmp_path_factory)


def test_leaves_what_the_contract_names(finished):
  for name in ("config.json", "run.json", "result.json"):
    assert (finished / name).stat().st_size > 0
  names = {path.name[3:] for path in (finished / "figures").glob("*.svg")}
  assert {"rounding.svg", "modelled-speed-up.svg"} <= names
  if "links cannot be emulated" not in _notes(finished):
    assert names > {"latency-2x2-1ms-1Gb.svg", "model.svg"}
    rows = json.loads((finished / "result.json").read_text())["bench"]
    assert len(rows) == 4
    assert {row["meta"]["wrong"] for row in rows} == {0}
    assert all("over emulated links" in r["meta"]["transport"] for r in rows)


def _notes(workdir) -> str:
  result = ledger.load(workdir / "result.json")
  return " ".join(claim.note for claim in result.claims)


def test_claims_are_golden(finished, request):
  result = binary.golden_claims(SLUG, finished, request)
  for claim in result.claims:  # too few calls to judge a time by
    assert claim.holds is None or not claim.time_dependent


def test_without_links_the_rest_is_done(tmp_path, monkeypatch):
  def refuse(*_, **__):
    raise emulated_links.UnavailableError("skipped, no links")

  monkeypatch.setattr(emulated_links, "timings", refuse)
  context = runs.Context(runs.Workdir(tmp_path))
  result = collectives_study.run(smoke.get_config(), context)
  claim = result.claim("nvrar-over-rivals")
  assert claim is not None
  assert (claim.holds, claim.note) == (None, "not judged: skipped, no links")
  for claim in result.claims:
    assert (claim.holds is None) == claim.time_dependent
  assert {path.name for path in (tmp_path / "figures").iterdir()} == {
    *("01-rounding.svg", "02-modelled-speed-up.svg")
  }


def test_every_config_fits_together():
  for module in (smoke, laptop, full):
    config = module.get_config()
    config.check()
    assert f"{config.headline.network}: " in collectives_study.rehearse(config)
  wanted = {128 << 10, 256 << 10, 512 << 10, 1024 << 10, 2048 << 10}
  assert wanted <= set(full.get_config().headline.sizes)


@pytest.mark.parametrize(
  ("flag", "message"),
  [
    ("headline.network=4y2", "links: got the network '4y2'"),
    ("headline.network=1x2,alpha=1ms,bw=1Gb", "expected two nodes at least"),
    ("headline.algorithms=('nvra',)", "algorithm for all_reduce: got 'nvra'"),
    ("headline.iters=5", "links.iters: got 5, expected a multiple of 2"),
    ("headline.peers=('nccl',)", "links.peers: got 'nccl', expected some of"),
    ("held_out_sizes=(5,)", "held_out_sizes: got 5, expected some of"),
    ("accuracy.headline_ranks=5", "headline_ranks: got 5, expected one of"),
  ],
)
def test_bad_settings_have_one_line(flag, message):
  config = smoke.get_config()
  name, value = flag.split("=", 1)
  *path, field = name.split(".")
  target = getattr(config, path[0]) if path else config
  old = getattr(target, field)
  setattr(target, field, value if isinstance(old, str) else eval(value))
  with pytest.raises(errors.UserError) as raised:
    config.check()
  assert message in str(raised.value)
  assert "\n" not in str(raised.value)


def test_a_size_in_bytes_of_one_latency():
  links = config_lib.Links(network="4x2,alpha=1ms,bw=1Gb")
  assert links.scaled(125_000) == pytest.approx(1)  # 1 ms at 1 Gb/s
  links = config_lib.Links(network="4x2,alpha=5ms,bw=10Gb")
  assert links.scaled(125_000) == pytest.approx(1 / 50)


def test_trap_07_rounding_is_that_of_every_step(tmp_path):
  settings = config_lib.Accuracy(ranks=(4, 64), numbers=512, draws=2)
  context = runs.Context(runs.Workdir(tmp_path))
  errors_by = accuracy.run(settings, context, seed=0)
  ring, doubling, wide = (
    np.mean(errors_by[name, kind, 64])
    for name, kind in (
      ("ring", accuracy.BFLOAT16),
      ("recursive_doubling", accuracy.BFLOAT16),
      ("ring", accuracy.FLOAT32),
    )
  )
  # Roundings add up like random steps: of partial sums that grow with each
  # step for a ring, of seven for doubling, of the last one in float32.
  assert 0.0012 < wide < 0.0022
  assert 2 * wide < doubling < 4 * wide
  assert 1.8 * doubling < ring < 3 * doubling
