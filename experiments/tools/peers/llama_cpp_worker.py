"""llama.cpp (llama-cpp-python, CPU) behind JSON lines.

Run by the Python of `.venv-peers`; imports nothing of ours but `peer_loop`. One
request a line on standard input, one answer a line on standard output.
"""

import collections
import ctypes
import dataclasses
import time

import llama_cpp
import numpy as np
import peer_loop


@dataclasses.dataclass
class Sequence:
  """A request being served, in a row of the cache."""

  row: int
  unread: list[int]  # tokens to read before it draws
  count: int  # tokens to draw
  arrived: float
  position: int = 0
  drawn: list[int] = dataclasses.field(default_factory=list)
  times: list[float] = dataclasses.field(default_factory=list)

  def answer(self) -> dict:
    """Returns what happened to it."""
    return {
      "arrived": self.arrived,
      "times": self.times,
      "drawn": self.drawn,
    }


class Worker:
  """Answers requests, by the names of its public methods."""

  def load(
    self,
    path: str,
    threads: int,
    context: int,
    rows: int = 1,
    unified: bool = False,
  ) -> dict:
    """Loads a GGUF file.

    One cache for all rows is slower for rows that are alike, and faster for
    `serve`, because rows with caches of their own are computed together only if
    they follow one another.
    """
    llama_cpp.llama_backend_init()
    params = llama_cpp.llama_model_default_params()
    # Its AMX path dies on virtual machines that show AMX but do not grant it.
    params.use_extra_bufts = False
    self.model = llama_cpp.llama_model_load_from_file(path.encode(), params)
    params = llama_cpp.llama_context_default_params()
    params.n_ctx = context * rows
    params.n_batch = params.n_ubatch = max(context, rows)
    self.batch = params.n_batch
    params.n_seq_max, params.kv_unified = rows, unified
    params.n_threads = params.n_threads_batch = threads
    self.context = llama_cpp.llama_init_from_model(self.model, params)
    vocab = llama_cpp.llama_model_get_vocab(self.model)
    self.vocab_size = llama_cpp.llama_vocab_n_tokens(vocab)
    return {"version": llama_cpp.__version__}

  def tokenize(self, path: str, lines: list[str]) -> dict:
    """Returns the ids of each line, by the vocabulary of a GGUF file."""
    model = llama_cpp.Llama(path, vocab_only=True, verbose=False)
    cut = lambda line: model.tokenize(line.encode(), add_bos=False)
    return {"ids": [cut(line) for line in lines]}

  def score(self, tokens: list[list[int]]) -> dict:
    """Returns the best token of every position and the next one's NLL."""
    argmax, nll = [], []
    for row in tokens:
      self._clear()
      self._decode([(t, i, 0, True) for i, t in enumerate(row)])
      logits = np.stack([self._logits(i) for i in range(len(row))])
      logits = logits.astype(np.float64)
      top = logits.max(-1)
      total = top + np.log(np.exp(logits - top[:, None]).sum(-1))
      chosen = logits[np.arange(len(row) - 1), row[1:]]
      argmax.append(logits.argmax(-1).tolist())
      nll.append((total[:-1] - chosen).tolist())
    return {"argmax": argmax, "nll": nll}

  def prefill(self, tokens: list[list[int]]) -> dict:
    """Runs a prompt, keeping logits of the last position alone."""
    start = time.perf_counter()
    self.start(tokens)
    return {"seconds": time.perf_counter() - start}

  def start(self, tokens: list[list[int]]) -> dict:
    """Runs a prompt a row and keeps the cache for `step`."""
    self._clear()
    self.next = []
    for row, prompt in enumerate(tokens):
      last = len(prompt) - 1
      self._decode([(t, i, row, i == last) for i, t in enumerate(prompt)])
      self.next.append(int(self._logits(last).argmax()))
    self.position = len(tokens[0])
    return {}

  def step(self, count: int) -> dict:
    """Decodes `count` greedy tokens a row."""
    start = time.perf_counter()
    for _ in range(count):
      batch = [(t, self.position, row, True) for row, t in enumerate(self.next)]
      self._decode(batch)
      self.next = [int(self._logits(i).argmax()) for i in range(len(batch))]
      self.position += 1
    return {"seconds": time.perf_counter() - start}

  def serve(
    self, prompts: list[list[int]], counts: list[int], concurrency: int
  ) -> dict:
    """Answers requests by continuous batching, as llama-server does.

    A step takes a token of every row that draws and beside them all that the
    batch has room for of prompts.
    """
    self._clear()
    start = time.perf_counter()
    waiting = collections.deque(zip(prompts, counts, strict=True))
    free, running, done = list(range(concurrency)), [], []
    while waiting or running:
      while waiting and free:
        prompt, count = waiting.popleft()
        now = time.perf_counter()
        running.append(Sequence(free.pop(), list(prompt), count, now))
      for ended in self._serve_step(running):
        running.remove(ended)
        free.append(ended.row)
        done.append(ended.answer())
    return {"seconds": time.perf_counter() - start, "requests": done}

  def _serve_step(self, running: list[Sequence]) -> list[Sequence]:
    """Decodes once, and returns the sequences that ended."""
    entries: list[tuple[int, int, int, bool]] = []
    drawing = []
    for one in sorted(running, key=lambda one: len(one.unread) > 1):
      piece = one.unread[: self.batch - len(entries)]
      del one.unread[: len(piece)]
      for token in piece:
        entries.append((token, one.position, one.row, False))
        one.position += 1
      if piece and not one.unread:
        entries[-1] = (*entries[-1][:3], True)
        drawing.append((one, len(entries) - 1))
    self._decode(entries)
    for one, index in drawing:
      one.unread = [int(self._logits(index).argmax())]
      one.drawn += one.unread
      one.times.append(time.perf_counter())
    ended = [one for one, _ in drawing if len(one.times) == one.count]
    for one in ended:
      memory = llama_cpp.llama_get_memory(self.context)
      llama_cpp.llama_memory_seq_rm(memory, one.row, -1, -1)
    return ended

  def _clear(self) -> None:
    memory = llama_cpp.llama_get_memory(self.context)
    llama_cpp.llama_memory_clear(memory, True)

  def _logits(self, index: int) -> np.ndarray:
    pointer = llama_cpp.llama_get_logits_ith(self.context, index)
    return np.ctypeslib.as_array(pointer, (self.vocab_size,)).copy()

  def _decode(self, entries: list[tuple[int, int, int, bool]]) -> None:
    batch = llama_cpp.llama_batch_init(len(entries), 0, 1)
    batch.n_tokens = len(entries)
    for i, (token, position, row, wanted) in enumerate(entries):
      batch.token[i], batch.pos[i] = token, position
      batch.n_seq_id[i], batch.seq_id[i][0] = 1, ctypes.c_int32(row).value
      batch.logits[i] = wanted
    code = llama_cpp.llama_decode(self.context, batch)
    llama_cpp.llama_batch_free(batch)
    if code:
      raise RuntimeError(f"llama_decode returned {code}")


if __name__ == "__main__":
  peer_loop.serve(Worker())
