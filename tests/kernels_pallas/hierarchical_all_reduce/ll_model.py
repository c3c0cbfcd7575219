"""The LL protocol as states, all of whose interleavings can be gone through.

Every rank follows the kernel's own `Plan`. A store of a cell is under way until
it is delivered, in any order but for those from one rank to one address.
Numbers are sums of one digit for each rank, part and call, so that a wrong sum
shows.

A rank sends as soon as it may, and acknowledgements arrive at once: later ones
would reach no state that a later delivery of the cell does not.
"""

import dataclasses
import itertools
from typing import Literal, NamedTuple

from kernels_pallas.hierarchical_all_reduce import plan as plans

Mutant = Literal[
  "one slot", "no wait", "stale flag", "flag before data", "no deferred wait"
]


Address = tuple[int, str, int]  # rank, what, of which message


_UNUSED = 0, 0  # value and flag of a cell


class Op(NamedTuple):
  """What a rank does with one message."""

  kind: str
  exchange: plans.Exchange
  peer: int
  part: int


class Store(NamedTuple):
  """A store under way, of a cell or of half of one."""

  source: int
  address: Address
  value: int | None
  flag: int | None


class State(NamedTuple):
  """All that there is at one moment."""

  steps: tuple[int, ...]
  totals: tuple[tuple[int, ...], ...]
  memory: frozenset[tuple]  # ((rank, name, number), (value, flag))
  pending: tuple[Store, ...]


@dataclasses.dataclass
class _Recorder:
  """A wire that writes down what a rank does."""

  plan: plans.Plan
  ops: list[Op]

  def _add(self, kind, exchange, peer, part):
    number = peer.node * self.plan.local + peer.local
    self.ops.append(Op(kind, exchange, number, part))

  def start(self, part):
    pass

  def send(self, exchange, to, part):
    self._add("send", exchange, to, part)

  def receive(self, exchange, source, part):
    self._add("receive", exchange, source, part)


class Model:
  """Some calls of the protocol.

  Attributes:
    plan: who sends what to whom.
    calls: one after another, with nothing between them.
    mutant: what is taken from the protocol.
  """

  def __init__(
    self, plan: plans.Plan, calls: int, mutant: Mutant | None = None
  ) -> None:
    self.plan, self.calls, self.mutant = plan, calls, mutant
    ranks = itertools.product(range(plan.nodes), range(plan.local))
    self.ranks = [plans.Rank(*rank) for rank in ranks]
    self.ops: list[list[Op]] = []
    for rank in self.ranks:
      wire = _Recorder(plan, [])
      plan.run(wire, rank)
      self.ops.append(wire.ops)

  def failures(self) -> set[str]:
    """What goes wrong in any interleaving: "wrong sum", "deadlock" or none."""
    start = State(
      (0,) * len(self.ranks),
      tuple(self._begin(rank, 0) for rank in range(len(self.ranks))),
      frozenset(),
      (),
    )
    seen, stack, found = {start}, [start], set()
    while stack and not found:
      state = stack.pop()
      following = self._following(state)
      if None in following:
        found.add("wrong sum")
      elif not following and any(
        step < self.calls * len(ops)
        for step, ops in zip(state.steps, self.ops, strict=True)
      ):
        found.add("deadlock")
      for after in following:
        if after is not None and after not in seen:
          seen.add(after)
          stack.append(after)
    self.states = len(seen)
    return found

  def _begin(self, rank: int, call: int) -> tuple[int, ...]:
    """A rank's input in a call, by part."""
    count, parts = len(self.ranks), self.plan.local
    return tuple(
      1 << 4 * ((call * count + rank) * parts + part) for part in range(parts)
    )

  def _following(self, state: State):
    """The states after this one; `None` where a call ends with a wrong sum."""
    memory = dict(state.memory)
    following = []
    for rank, ops in enumerate(self.ops):
      call, step = divmod(state.steps[rank], len(ops))
      if call == self.calls or not self._ready(
        memory, rank, ops[step], call + 1
      ):
        continue
      after = self._advance(state, memory, rank, ops[step], call)
      if ops[step].kind == "send":
        return [after]
      following.append(after)
    stored = set()
    for index, store in enumerate(state.pending):
      if store[:2] not in stored:  # stores to one address keep their order
        stored.add(store[:2])
        following.append(_deliver(state, memory, index))
    return following

  def _cell(self, rank: int, op: Op) -> Address:
    return rank, "cell", 0 if self.mutant == "one slot" else op.exchange.index

  def _ready(self, memory: dict, rank: int, op: Op, call: int) -> bool:
    if op.kind == "send":
      read = memory.get((rank, "read", op.exchange.index), 0)
      return read == call - 1 or self.mutant == "no deferred wait"
    _, flag = memory.get(self._cell(rank, op), _UNUSED)
    return flag == self._flag(call) or self.mutant == "no wait"

  def _flag(self, call: int) -> int:
    return 1 if self.mutant == "stale flag" else call

  def _advance(self, state: State, memory: dict, rank: int, op: Op, call: int):
    total, pending = list(state.totals[rank]), state.pending
    if op.kind == "send":
      scatters = op.exchange.phase == "scatter"
      value = (self._begin(rank, call) if scatters else total)[op.part]
      pending += self._stores(rank, op, value, call + 1)
    else:
      value, _ = memory.get(self._cell(rank, op), _UNUSED)
      keeps = op.exchange.phase not in ("gather", "unfold")
      total[op.part] = value + keeps * total[op.part]
      memory = memory | {(op.peer, "read", op.exchange.index): call + 1}
    step = state.steps[rank] + 1
    if step % len(self.ops[rank]) == 0:
      count = range(len(self.ranks))
      inputs = zip(*(self._begin(x, call) for x in count), strict=True)
      if total != [sum(part) for part in inputs]:
        return None
      total = list(self._begin(rank, call + 1))
    return State(
      (*state.steps[:rank], step, *state.steps[rank + 1 :]),
      (*state.totals[:rank], tuple(total), *state.totals[rank + 1 :]),
      frozenset(memory.items()),
      pending,
    )

  def _stores(self, rank: int, op: Op, value: int, call: int):
    place, flag = (rank, self._cell(op.peer, op)), self._flag(call)
    if self.mutant == "flag before data":
      return Store(*place, None, flag), Store(*place, value, None)
    return (Store(*place, value, flag),)


def _deliver(state: State, memory: dict, index: int) -> State:
  store = state.pending[index]
  value, flag = memory.get(store.address, _UNUSED)
  value = value if store.value is None else store.value
  flag = flag if store.flag is None else store.flag
  memory = memory | {store.address: (value, flag)}
  pending = state.pending[:index] + state.pending[index + 1 :]
  return state._replace(memory=frozenset(memory.items()), pending=pending)
