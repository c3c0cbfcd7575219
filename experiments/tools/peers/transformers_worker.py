"""Hugging Face transformers (torch, CPU, float32) behind JSON lines.

Run by the Python of `.venv-peers`; imports nothing of ours but `peer_loop`. One
request a line on standard input, one answer a line on standard output.
"""

import time

import peer_loop
import torch
import transformers
from transformers import generation

_PAGE, _BATCH = 64, 1024  # tokens in a page of its cache, in a step of `serve`


class Worker:
  """Answers `create`, `load`, `score`, `prefill`, `start`, `step`, `serve`."""

  def create(
    self, folder: str, config: dict, seed: int, shard_size: str
  ) -> dict:
    """Writes a checkpoint folder with random weights, none of them trivial."""
    torch.manual_seed(seed)
    model = transformers.AutoModelForCausalLM.from_config(
      transformers.AutoConfig.for_model(**config), dtype=torch.float32
    )
    for name, value in model.named_parameters():
      if value.ndim == 1:  # fresh biases are all 0 and norm scales all 1
        centre = 1.0 if "norm" in name else 0.0
        value.copy_(centre + 0.3 * torch.randn(value.shape))
    model.save_pretrained(folder, max_shard_size=shard_size)
    frequencies = model.model.rotary_emb.inv_freq
    return {"inverse_frequencies": frequencies.tolist()}

  def load(self, folder: str, threads: int) -> dict:
    """Loads a checkpoint folder."""
    torch.set_num_threads(threads)
    self.model = transformers.AutoModelForCausalLM.from_pretrained(
      folder, dtype=torch.float32
    ).eval()
    return {"version": transformers.__version__, "torch": torch.__version__}

  def score(self, tokens: list[list[int]]) -> dict:
    """Returns the logits at every position."""
    logits = self.model(torch.tensor(tokens)).logits
    return {"logits": logits.float().tolist()}

  def prefill(self, tokens: list[list[int]]) -> dict:
    """Runs a prompt, keeping logits of the last position alone."""
    start = time.perf_counter()
    self.model(torch.tensor(tokens), use_cache=True, logits_to_keep=1)
    return {"seconds": time.perf_counter() - start}

  def start(self, tokens: list[list[int]]) -> dict:
    """Runs a prompt and keeps its cache for `step`."""
    out = self.model(torch.tensor(tokens), use_cache=True, logits_to_keep=1)
    self.cache, self.next = out.past_key_values, out.logits.argmax(-1)
    return {}

  def step(self, count: int) -> dict:
    """Decodes `count` greedy tokens a row."""
    start = time.perf_counter()
    for _ in range(count):
      out = self.model(self.next, past_key_values=self.cache, use_cache=True)
      self.cache, self.next = out.past_key_values, out.logits.argmax(-1)
    return {"seconds": time.perf_counter() - start}

  def serve(
    self, prompts: list[list[int]], counts: list[int], concurrency: int
  ) -> dict:
    """Answers requests by its continuous batching."""
    tokens = sum(sorted(map(len, prompts))[-concurrency:])
    tokens += sum(sorted(counts)[-concurrency:])
    settings = generation.ContinuousBatchingConfig(
      page_size=_PAGE,
      num_blocks=-(-tokens // _PAGE) + 2 * concurrency,
      max_batch_tokens=_BATCH,
      max_requests_per_batch=concurrency,
      allow_block_sharing=False,  # rounds repeat their prompts
    )
    greedy = generation.GenerationConfig(do_sample=False, eos_token_id=-1)
    with self.model.continuous_batching_context_manager(
      greedy, continuous_batching_config=settings, warmup=False
    ) as manager:
      return _feed(
        manager, list(zip(prompts, counts, strict=True)), concurrency
      )


def _feed(manager, requests: list, concurrency: int) -> dict:
  """Keeps so many requests in flight until all are answered."""
  start, sent, done = time.perf_counter(), 0, []
  while len(done) < len(requests):
    for prompt, count in requests[sent : len(done) + concurrency]:
      manager.add_request(prompt, max_new_tokens=count, record_timestamps=True)
      sent += 1
    answer = manager.get_result(timeout=60)
    if answer is None or answer.error:
      raise RuntimeError(f"no answer: {answer and answer.error}")
    if answer.is_finished():
      done.append(
        {
          "arrived": answer.created_time,
          "times": answer.timestamps,
          "drawn": answer.generated_tokens,
        }
      )
  return {"seconds": time.perf_counter() - start, "requests": done}


if __name__ == "__main__":
  with torch.inference_mode():
    peer_loop.serve(Worker())
