"""What is claimed of training steps, and how each claim is judged.

Losses and bytes do not depend on time, nor on emulated links.
"""

import dataclasses

import numpy as np

from experiments import timed_claims
from experiments.pccl.analysis import OURS, Findings, case_name, two_level
from research import runs

#: Nats: float32 sums in another order, after a few steps.
ROUNDING = 1e-5
#: Padding, and the loss that is reduced too.
PADDING = 1.02
#: The smaller one of the abstract's two gains.
GAIN = 1.4

# Each moves as few bytes as a rank can; NVRAR and recursive doubling trade
# bytes for steps.
_LEAN = (
  *("xla", "ring", "bruck", "recursive", "rabenseifner"),
  *("pccl_ring", "pccl_recursive"),
)
_TITLES = {"zero3": "ZeRO-3", "ddp": "data-parallel"}
_PAPER = "GPT-3-style training 60 % (7B) and 40 % (13B) faster"


def judge(found: Findings) -> tuple[runs.Claim, ...]:
  """Judges every claim about training.

  Args:
    found: the findings.

  Returns:
    The claims, ZeRO-3's step times first.
  """
  kinds = dict.fromkeys(name.split(":")[0] for name in found.cases)
  steps = [
    timed_claims.named(claim, "", found.steps_reason)
    for kind in _TITLES
    if kind in kinds
    for claim in (
      _over(found, kind, "ring", "by the flat ring"),
      _over(found, kind, "xla", "by XLA's own collectives (gloo's)"),
      _over_best(found, kind),
    )
  ]
  ports = [_port(found, kind) for kind in _TITLES if kind in kinds]
  return (*steps, _losses(found), _formula(found), *ports)


def _step(kind: str, rival: str, words: str) -> runs.Claim:
  return dataclasses.replace(
    timed_claims.EMPTY,
    id=f"{kind}-step-over-{rival}",
    statement=f"A {_TITLES[kind]} training step is faster by PCCL's recursive "
    f"collectives than {words}, on emulated links",
    paper_value=_PAPER if kind == "zero3" and rival == "ring" else None,
    unit="×",
  )


def _over(found: Findings, kind: str, rival: str, words: str) -> runs.Claim:
  claim = _step(kind, rival, words)
  ours, theirs = f"{kind} {OURS}", f"{kind} {rival}"
  for name in (ours, theirs):
    if name not in found.steps.algorithms:
      return timed_claims.unmeasured(claim, name)
  [size] = found.steps.sizes
  return timed_claims.at_worst(
    claim,
    [found.steps.ratio(theirs, ours, size)],
    lambda ratio: ratio.median >= GAIN,
    f"rule: at least {GAIN} in medians; by bytes of parameters",
  )


def _over_best(found: Findings, kind: str) -> runs.Claim:
  claim = _step(kind, "best-flat", "by the best flat ones")
  names = [n for n in found.steps.algorithms if n.startswith(f"{kind} ")]
  flat = [name for name in names if not two_level(name.split()[1])]
  ours = f"{kind} {OURS}"
  if not flat or ours not in names:
    return timed_claims.unmeasured(claim, f"{ours} and a flat rival")
  [size] = found.steps.sizes
  by_time = sorted(
    names, key=lambda name: found.steps.cells[name, size].median_us
  )
  all_steps = ", ".join(
    f"{name} {found.steps.cells[name, size].median_us / 1e3:.0f} ms"
    for name in by_time
  )
  return timed_claims.at_worst(
    claim,
    [found.steps.ratio(found.steps.best(flat, size), ours, size)],
    lambda ratio: ratio.low > 1,
    f"rule: the 95 % interval is above 1; medians: {all_steps}",
  )


def _losses(found: Findings) -> runs.Claim:
  losses = np.array(
    [case.losses for rounds in found.cases.values() for case in rounds]
  )
  middle = np.median(losses, axis=0)
  spread = float(np.abs(losses - middle).max())
  fall = float(middle[0] - middle[-1])
  return dataclasses.replace(
    timed_claims.EMPTY,
    id="losses-equal",
    statement="Training gives the same losses by every algorithm, sharded or "
    "not",
    measured=spread,
    unit="nats, the largest difference",
    holds=bool(spread <= ROUNDING and fall > 1000 * ROUNDING),
    time_dependent=False,
    note=f"rule: at most {ROUNDING:g}, float32 rounding, while the loss falls "
    f"by a thousand times as much; {len(found.cases)} cases, "
    f"{losses.shape[1]} steps, loss {middle[0]:.3f} to {middle[-1]:.3f} nats",
  )


def _formula(found: Findings) -> runs.Claim:
  excess = {
    name: rounds[0].rank_bytes / rounds[0].formula_bytes
    for name, rounds in found.cases.items()
    if name.split(":")[1] in _LEAN
  }
  claim = dataclasses.replace(
    timed_claims.EMPTY,
    id="bytes-as-formula",
    statement="A compiled step sends what its formula says and no more, by "
    "every algorithm that should send the least",
    unit="× the formula's bytes, worst case",
    kind="compiled",
    time_dependent=False,
  )
  if not excess:
    return timed_claims.unmeasured(claim, "such an algorithm")
  worst = max(excess, key=lambda name: abs(excess[name] - 1))
  return dataclasses.replace(
    claim,
    measured=excess[worst],
    holds=bool(1 <= excess[worst] <= PADDING),
    note=f"rule: from 1 to {PADDING}; counted in the compiled program, "
    f"collectives of the vendor as gloo runs them; {len(excess)} cases, worst: "
    f"{case_name(worst)}",
  )


def _port(found: Findings, kind: str) -> runs.Claim:
  ports = {
    name.split(":")[1]: rounds[0].port_bytes
    for name, rounds in found.cases.items()
    if name.startswith(f"{kind}:")
  }
  claim = dataclasses.replace(
    timed_claims.EMPTY,
    id=f"{kind}-bytes-between-nodes",
    statement=f"By PCCL's recursive collectives a {_TITLES[kind]} step sends "
    "fewer bytes out of a node than by any flat one",
    unit="× those of the leanest flat one",
    kind="compiled",
    time_dependent=False,
  )
  flat = {name: port for name, port in ports.items() if not two_level(name)}
  if not flat or OURS not in ports:
    return timed_claims.unmeasured(claim, f"{OURS} and a flat rival")
  ratio = ports[OURS] / min(flat.values())
  counted = ", ".join(
    f"{name} {port / 1e6:.3g} MB"
    for name, port in sorted(ports.items(), key=lambda item: item[1])
  )
  return dataclasses.replace(
    claim,
    measured=ratio,
    holds=bool(ratio < 1),
    note=f"rule: below 1; out of the node that sends most, a step: {counted}",
  )
