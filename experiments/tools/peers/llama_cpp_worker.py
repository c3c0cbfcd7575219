"""llama.cpp (llama-cpp-python, CPU) behind JSON lines.

Run by the Python of `.venv-peers`; imports nothing of this codebase. One
request a line on standard input, one answer a line on standard output.
"""

import ctypes
import json
import sys
import time

import llama_cpp
import numpy as np


class Worker:
  """Answers `tokenize`, `load`, `score`, `prefill`, `start` and `step`."""

  def load(self, path: str, threads: int, context: int, rows: int = 1) -> dict:
    """Loads a GGUF file."""
    llama_cpp.llama_backend_init()
    params = llama_cpp.llama_model_default_params()
    # Its AMX path dies on virtual machines that show AMX but do not grant it.
    params.use_extra_bufts = False
    self.model = llama_cpp.llama_model_load_from_file(path.encode(), params)
    params = llama_cpp.llama_context_default_params()
    params.n_ctx = context * rows
    params.n_batch = params.n_ubatch = max(context, rows)
    params.n_seq_max = rows
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


def main() -> None:
  """Serves requests until standard input ends."""
  worker = Worker()
  for line in sys.stdin:
    request, start = json.loads(line), time.perf_counter()
    answer = getattr(worker, request.pop("op"))(**request)
    answer = {"seconds": time.perf_counter() - start} | answer
    print(json.dumps(answer), flush=True)


if __name__ == "__main__":
  main()
