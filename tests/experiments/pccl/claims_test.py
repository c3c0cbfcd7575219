"""The rules by which claims are judged, on times that nobody measured."""

import dataclasses

import pytest

from experiments import timed_claims
from experiments.pccl import analysis, claims
from tests.experiments.pccl import made_up

_K = made_up.K


def _judged(seconds, settings=None, **fields):
  settings = settings or made_up.config()
  found = made_up.findings(seconds, settings, **fields)
  return {claim.id: claim for claim in claims.judge(settings, found)}


def _by_name(**seconds):
  return lambda name, _: seconds.get(name, 4.0)


def test_the_aim_is_reached_at_the_worst_size():
  found = _judged(_by_name(pccl_recursive=1.0))
  for rival in ("ring", "xla", "best-flat"):
    claim = found[f"all-gather-over-{rival}"]
    assert claim.holds
    assert claim.time_dependent
    assert claim.measured == pytest.approx(4.0, rel=0.02)
    assert "emulated links" in claim.statement

  slow_at_128k = lambda name, size: (
    2.0
    if (name, size) == (analysis.OURS, 128 * _K)
    else 1.0
    if name == analysis.OURS
    else 4.0
  )
  claim = _judged(slow_at_128k)["all-gather-over-ring"]
  assert claim.holds is False
  assert claim.measured == pytest.approx(2.0, rel=0.02)


def test_where_bandwidth_rules_the_aim_is_not_judged():
  """M β / α is 1.05 at 128 KB on these links and 4.2 at 512 KB."""
  slow_when_large = lambda name, size: (
    9.0
    if size >= 512 * _K and name == analysis.OURS
    else 1.0
    if name == analysis.OURS
    else 4.0
  )
  found = _judged(slow_when_large)
  assert found["all-gather-over-ring"].holds
  assert not found["all-gather-fastest"].holds


def test_one_flat_rival_at_par_fails_the_strict_claim_alone():
  found = _judged(_by_name(pccl_recursive=1.0, recursive=1.0))
  assert found["all-gather-over-best-flat"].holds is False
  assert "recursive" in found["all-gather-over-best-flat"].note
  assert found["all-gather-over-ring"].holds
  assert found["all-gather-over-xla"].holds
  assert found["all-gather-fastest"].holds


def test_a_two_level_rival_counts_for_the_fastest_only():
  found = _judged(_by_name(pccl_recursive=1.0, pccl_ring=0.8))
  assert found["all-gather-over-best-flat"].holds
  assert found["all-gather-fastest"].holds is False


def test_a_crossover_is_found_and_said_in_both_units():
  """ring 1, recursive 1/2 at 32K to 2 at 2M: a tie at 256K."""
  rise = {32 * _K: 0.35, 128 * _K: 0.7, 512 * _K: 1.4, 2048 * _K: 2.8}
  found = _judged(lambda name, size: rise[size] if name == "recursive" else 1.0)
  claim = found["all-gather-crossover-flat"]
  assert claim.holds
  tie = 128 * _K * 2 ** (2 * 0.5146)  # where the logarithm of the ratio is 0
  assert claim.measured == pytest.approx(tie, rel=0.05)
  assert claim.interval is not None
  low, high = claim.interval
  assert low <= tie * 1.01
  assert high >= tie * 0.99
  assert "M β / α = 2.1" in claim.note
  none = found["all-gather-crossover-two-level"]
  assert (none.holds, none.measured) == (False, "none from 32K to 2M")


def test_a_crossover_within_the_noise_is_none():
  barely = lambda name, size: (
    (0.999 if size < 512 * _K else 1.001) if name == "recursive" else 1.0
  )
  claim = _judged(barely, noise=0.1)["all-gather-crossover-flat"]
  assert claim.holds is False


def test_disturbed_calls_are_not_judged():
  found = _judged(_by_name(pccl_recursive=1.0), free_cores=(1.0,) * 5)
  for claim in found.values():
    assert claim.holds is None
    assert claim.measured is not None
    assert timed_claims.CONTENDED in claim.note


def test_without_links_nothing_is_judged_and_the_reason_is_said():
  found = _judged(_by_name(), reason="skipped, no links")
  assert found
  for claim in found.values():
    assert (claim.measured, claim.holds) == (None, None)
    assert claim.note == "not judged: skipped, no links"


def test_a_config_without_a_rival_says_so():
  settings = made_up.config(algorithms=("ring", analysis.OURS))
  found = _judged(_by_name(pccl_recursive=1.0), settings)
  assert found["all-gather-over-ring"].holds
  assert "did not measure xla" in found["all-gather-over-xla"].note
  assert found["all-gather-over-xla"].holds is None


def test_further_networks_have_claims_of_their_own():
  settings = made_up.config()
  more = dataclasses.replace(
    settings.sweeps[0], network="4x2,alpha=5ms,bw=10Gb"
  )
  settings.sweeps = (*settings.sweeps, more)
  found = _judged(_by_name(pccl_recursive=1.0), settings)
  other = found["all-gather-over-ring.4x2-5ms-10Gb"]
  assert "4x2,alpha=5ms,bw=10Gb" in other.statement
  assert other.holds


def test_all_times_are_in_the_ledger():
  settings = made_up.config()
  found = made_up.findings(_by_name(), settings)
  rows = analysis.bench_rows(settings, found)
  names = [row.name for row in rows]
  assert len(set(names)) == len(names) == 6 * 4 + 4
  assert "all-gather 32K pccl_ring" in names
  assert "step zero3 pccl_recursive" in names
