"""What is claimed of the engine, and the rule by which each claim is judged.

Rules were written before the first run. Where several models or batches are
timed on a network the worst of them decides. The paper's figure is over NCCL on
GPUs, so that it stands beside the flat ring.
"""

import dataclasses
from collections.abc import Callable, Sequence

from experiments import timed_claims
from experiments.multinode_inference import engine_config
from experiments.multinode_inference.engine_study import Found, Measured
from research import runs

OURS = "tp nvrar"
RING = "tp ring"
#: Of the time of a decode-heavy batch, by the best all-reduce but NVRAR.
SHARE = 0.5

_PAPER = "up to 1.72 over NCCL, Llama 3.1 405B"


def judge(
  jobs: Sequence[engine_config.Job], found: Found
) -> tuple[runs.Claim, ...]:
  """Judges every claim.

  Args:
    jobs: what was to be timed; of none nothing is claimed.
    found: the findings.

  Returns:
    The claims about times, network by network, and that about answers.
  """
  claims = []
  for index, network in enumerate(dict.fromkeys(job.network for job in jobs)):
    place = f"links-{index + 1}" if index else ""
    reason = "" if found.of(network, "decode") else found.reason
    claims += [
      timed_claims.named(claim, place, reason) for claim in _on(network, found)
    ]
  return (*claims, _answers(found)) if jobs else ()


def _on(network: str, found: Found) -> tuple[runs.Claim, ...]:
  where = f"on emulated links ({network})"
  decode, prefill = (found.of(network, kind) for kind in ("decode", "prefill"))
  return (
    _ahead(
      "engine-decode-nvrar",
      "Decode-heavy batches are answered sooner with tensor parallelism over "
      f"all nodes by NVRAR than by the best other all-reduce, {where}",
      decode,
      rivals=lambda names: _of("tp", names, OURS),
      ours=lambda names: _only(OURS, names),
    ),
    _ahead(
      "engine-decode-nvrar-over-ring",
      "Decode-heavy batches are answered sooner with tensor parallelism over "
      f"all nodes by NVRAR than by a flat ring, {where}",
      decode,
      rivals=lambda names: _only(RING, names),
      ours=lambda names: _only(OURS, names),
      paper=_PAPER,
    ),
    _ahead(
      "engine-decode-tp",
      "Decode-heavy batches are answered sooner with tensor parallelism over "
      f"all nodes by NVRAR than with any pipeline between nodes, {where}",
      decode,
      rivals=_pipelines,
      ours=lambda names: _only(OURS, names),
    ),
    _ahead(
      "engine-prefill-hybrid",
      "Prefill-heavy batches are answered sooner with a pipeline between nodes "
      "and tensor parallelism within them than with tensor parallelism over "
      f"all nodes by any all-reduce, {where}",
      prefill,
      rivals=lambda names: _of("tp", names),
      ours=lambda names: _of("hybrid", names),
    ),
    _share(where, decode),
  )


def _ahead(
  name: str,
  statement: str,
  some: Sequence[Measured],
  *,
  rivals: Callable[[Sequence[str]], list[str]],
  ours: Callable[[Sequence[str]], list[str]],
  paper: str | None = None,
) -> runs.Claim:
  claim = dataclasses.replace(
    timed_claims.EMPTY,
    id=name,
    statement=statement,
    paper_value=paper,
    unit="× at the worst model and batch",
  )
  ratios = []
  for one in some:
    names = one.network.algorithms
    if rivals(names) and ours(names):
      slow, fast = (
        one.network.best(side(names), one.size) for side in (rivals, ours)
      )
      ratios.append(one.network.ratio(slow, fast, one.size))
  if not ratios:
    return timed_claims.unmeasured(claim, "both sides of it")
  return timed_claims.at_worst(
    claim,
    ratios,
    lambda ratio: ratio.median > 1,
    "rule: above 1 in medians everywhere; by bytes that a rank adds up in an "
    "all-reduce while nobody reads",
  )


def _share(where: str, some: Sequence[Measured]) -> runs.Claim:
  claim = dataclasses.replace(
    timed_claims.EMPTY,
    id="engine-decode-in-all-reduces",
    statement="With tensor parallelism over all nodes by the best all-reduce "
    "but NVRAR, decode-heavy batches spend half of their time or more in "
    f"all-reduces that no work hides, {where}",
    unit="of the time, least",
  )
  shares = {}
  for one in some:
    rivals = _of("tp", one.network.algorithms, OURS)
    if rivals:
      best = one.network.best(rivals, one.size)
      shares[f"{one.title} by {best}"] = one.share(best, "all_reduce")
  if not shares:
    return timed_claims.unmeasured(claim, "such a case")
  least = min(shares.values())
  each = ", ".join(f"{name} {share:.2f}" for name, share in shares.items())
  return timed_claims.judged(
    dataclasses.replace(
      claim,
      measured=least,
      note=f"rule: at least {SHARE} everywhere; from recorded batches, mean "
      f"over ranks, waiting for the slowest rank included; {each}",
    ),
    least >= SHARE,
    contended=any(one.network.contended for one in some),
  )


def _answers(found: Found) -> runs.Claim:
  cases = [
    case
    for one in found.measured
    for rounds in one.cases.values()
    for case in rounds
  ]
  different = sum(case.different for case in cases)
  return dataclasses.replace(
    timed_claims.EMPTY,
    id="engine-answers-equal",
    statement="Greedy answers do not depend on what is divided over ranks, nor "
    "on the all-reduce",
    measured=different,
    unit="tokens that differ",
    holds=different == 0,
    time_dependent=False,
    note=f"rule: none of {sum(case.drawn for case in cases)} tokens, in "
    f"{len(cases)} batches",
  )


def _only(wanted: str, names: Sequence[str]) -> list[str]:
  return [name for name in names if name == wanted]


def _of(strategy: str, names: Sequence[str], *without: str) -> list[str]:
  prefix = f"{strategy} "
  return [n for n in names if n.startswith(prefix) and n not in without]


def _pipelines(names: Sequence[str]) -> list[str]:
  return [*_of("pp", names), *_of("hybrid", names)]
