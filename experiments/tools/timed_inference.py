"""What `experiments.tools.time_inference` times, and how."""

import dataclasses
import functools
import pathlib
import tempfile
import time
from collections.abc import Callable, Mapping

import numpy as np

from experiments.tools import inference_cases as cases_lib
from experiments.tools import step_split, timed_collectives
from research import mesh
from research.inference import engine as engine_lib
from research.inference import parallel
from research.inference.request import Request
from research.telemetry import trace, xplane
from research.transformer import checkpoints

_PAGE = 64
_BLOCK = 16
_MOST_MICRO_BATCHES = 4
_RECORDED = "recorded batch"

Answered = tuple[np.ndarray, int]  # tokens, and steps of the engine


@dataclasses.dataclass(frozen=True, kw_only=True)
class Bench(timed_collectives.Bench):
  """Batches of requests in the place of collectives; algorithms are cases.

  Attributes:
    model: the decoder and its weights.
    batch: requests, which all run at once.
    works: what they ask for.
    pieces: tokens of prompts that a step reads.
  """

  model: checkpoints.Model
  batch: int
  works: tuple[cases_lib.Work, ...]
  pieces: int

  def cases(
    self,
  ) -> tuple[list[timed_collectives.Row], list[cases_lib.Case]]:
    """Times all cases, batch by batch in turns.

    Compiling is part of the first calls, which must be there to warm up.

    Returns:
      Times, whose `size` is what a rank adds up in an all-reduce of a layer
      while nobody reads; and the rest. Both go work by work.
    """
    width = self.model.config.embed_dim
    self._warm(4 * width * (self.batch + self.pieces))
    engines = {name: self._engine(name) for name in self.algorithms}
    rows, cases = [], []
    for work in self.works:
      some_rows, some_cases = self._at(work, engines)
      rows += some_rows
      cases += some_cases
    return rows, cases

  def _at(
    self, work: cases_lib.Work, engines: Mapping[str, engine_lib.Engine]
  ) -> tuple[list[timed_collectives.Row], list[cases_lib.Case]]:
    requests = self._requests(work)
    calls = {
      name: functools.partial(_answer, engine)
      for name, engine in engines.items()
    }
    own, free = self._times(calls, requests)
    recorded = {
      name: self._record(call, requests) for name, call in calls.items()
    }
    said = timed_collectives.exchange(
      {name: (own[name], *recorded[name][2:]) for name in calls}
    )
    first = recorded[self.algorithms[0]][0]
    count = self.batch * self.model.config.embed_dim
    rows, cases = [], []
    for name in calls:
      tokens, steps, *_ = recorded[name]
      times, walls, splits = zip(*(one[name] for one in said), strict=True)
      row = self._row(name, count, np.max(times, axis=0), 0)
      rows.append(dataclasses.replace(row, free_cores=free))
      cases.append(
        cases_lib.Case(
          name=name,
          work=str(work),
          steps=steps,
          drawn=tokens.size,
          different=int((tokens != first).sum()),
          profiled=float(np.mean(walls)),
          split=step_split.mean([one for part in splits for one in part]),
        )
      )
    return rows, cases

  def _record(
    self, call: Callable[[list[Request]], Answered], requests: list[Request]
  ) -> tuple[np.ndarray, int, float, list[dict[str, float]]]:
    """Returns also the seconds of a recorded batch, and where they went."""
    with tempfile.TemporaryDirectory() as name:
      folder = pathlib.Path(name)
      with trace.profile(folder):
        self._meet()
        began = time.perf_counter()
        with trace.span(_RECORDED):
          tokens, steps = call(requests)
        wall = time.perf_counter() - began
      ran = xplane.operations(folder, within=_RECORDED)
    return tokens, steps, wall, step_split.split(ran, wall)

  def _engine(self, case: str) -> engine_lib.Engine:
    longest = max(work.prompt + work.tokens for work in self.works)
    settings = engine_lib.Settings(
      # A free page for every one that runs, or the last ones would wait.
      num_pages=self.batch * (1 + -(-longest // _PAGE)),
      page_size=_PAGE,
      rows=(self.batch,),
      pieces=(self.pieces,),
      block=_BLOCK,
      prefix_cache=False,  # a batch is to be read again and again
    )
    strategy, algorithm = case.split(":")
    grid = cases_lib.axes(strategy, self.shape["node"], self.shape["local"])
    layout = parallel.Split(
      mesh=mesh.make_mesh(grid),
      algorithm=algorithm,
      micro_batches=min(grid["pipe"], _MOST_MICRO_BATCHES),
    )
    return engine_lib.Engine(self.model, settings, layout=layout)

  def _requests(self, work: cases_lib.Work) -> list[Request]:
    rng = np.random.default_rng(0)
    size = (self.batch, work.prompt)
    prompts = rng.integers(0, self.model.config.vocab_size, size)
    return [
      Request(prompt.tolist(), max_tokens=work.tokens, ignore_eos=True)
      for prompt in prompts
    ]


def _answer(engine: engine_lib.Engine, requests: list[Request]) -> Answered:
  """Answers a batch; returns its tokens and the steps that it took."""
  before = engine.steps
  answers = engine.generate(requests)
  return np.array([one.tokens for one in answers]), engine.steps - before
