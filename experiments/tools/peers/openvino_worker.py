"""OpenVINO GenAI (CPU) behind JSON lines.

Run by the Python of `.venv-peers`; imports nothing of ours but `peer_loop`. One
request a line on standard input, one answer a line on standard output. It is
timed, and not compared by what it says: its import of 4-bit GGUF files differs
from llama.cpp's and this codebase's own.
"""

import collections
import itertools
import time

import numpy as np
import openvino
import openvino_genai
import peer_loop

_BLOCK, _BATCH = 32, 1024  # tokens in a block of its cache, in a step


class Worker:
  """Answers requests, by the names of its public methods."""

  def load(self, path: str, threads: int, context: int, rows: int) -> dict:
    """Opens a GGUF file in its continuous batching pipeline."""
    settings = openvino_genai.SchedulerConfig()
    settings.enable_prefix_caching = False  # rounds repeat their prompts
    settings.num_kv_blocks = rows * (-(-context // _BLOCK) + 1)
    settings.max_num_seqs = rows
    settings.max_num_batched_tokens = _BATCH
    properties = {
      "INFERENCE_NUM_THREADS": threads,
      "INFERENCE_PRECISION_HINT": "f32",
      "KV_CACHE_PRECISION": "f32",
    }
    self.pipeline = openvino_genai.ContinuousBatchingPipeline(
      path, settings, "CPU", properties
    )
    self.context, self.numbers, self.started = context, itertools.count(), []
    return {"version": openvino_genai.__version__}

  def start(self, tokens: list[list[int]]) -> dict:
    """Reads a prompt a row, until all rows draw."""
    for handle in self.started:
      handle.stop()
    while self.pipeline.has_non_finished_requests():
      self.pipeline.step()
    room = self.context - len(tokens[0])
    self.started = [self._add(prompt, room) for prompt in tokens]
    while not all(handle.can_read() for handle in self.started):
      self.pipeline.step()
    return {}

  def step(self, count: int) -> dict:
    """Decodes `count` greedy tokens a row."""
    start = time.perf_counter()
    for _ in range(count):
      self.pipeline.step()
      for handle in self.started:
        _read(handle)
    return {"seconds": time.perf_counter() - start}

  def serve(
    self, prompts: list[list[int]], counts: list[int], concurrency: int
  ) -> dict:
    """Answers requests by its continuous batching."""
    start = time.perf_counter()
    waiting = collections.deque(zip(prompts, counts, strict=True))
    flying, done = [], []
    while waiting or flying:
      while waiting and len(flying) < concurrency:
        prompt, count = waiting.popleft()
        answer = {"arrived": time.perf_counter(), "times": [], "drawn": []}
        flying.append((self._add(prompt, count), count, answer))
      self.pipeline.step()
      for one in list(flying):
        handle, count, answer = one
        drawn = _read(handle)
        answer["drawn"] += drawn
        answer["times"] += [time.perf_counter()] * len(drawn)
        if len(answer["drawn"]) == count:
          flying.remove(one)
          done.append(answer)
    return {"seconds": time.perf_counter() - start, "requests": done}

  def _add(self, prompt: list[int], count: int):
    greedy = openvino_genai.GenerationConfig()
    greedy.max_new_tokens, greedy.ignore_eos = count, True
    greedy.do_sample = False
    tokens = openvino.Tensor(np.array([prompt], np.int64))
    return self.pipeline.add_request(next(self.numbers), tokens, greedy)


def _read(handle) -> list[int]:
  """Returns the tokens that were drawn since the last call."""
  found = []
  while handle.can_read():
    for output in handle.read().values():
      found += output.generated_ids
  return found


if __name__ == "__main__":
  peer_loop.serve(Worker())
