"""Decode attention in torch (CPU, float32) behind JSON lines.

Run by the Python of `.venv-peers`; imports nothing of ours but `peer_loop`. One
request a line on standard input, one answer a line on standard output.
"""

import time

import peer_loop
import torch


class Worker:
  """Answers `load`, `sdpa` and `products`."""

  def load(
    self, heads: int, kv_heads: int, width: int, tokens: int, threads: int
  ) -> dict:
    """Makes a query and its cache."""
    torch.set_num_threads(threads)
    torch.manual_seed(0)
    self.q = torch.randn(1, heads, 1, width)
    self.k = torch.randn(1, kv_heads, tokens, width)
    self.v = torch.randn(1, kv_heads, tokens, width)
    return {"torch": torch.__version__}

  def sdpa(self) -> dict:
    """Attends by `scaled_dot_product_attention`."""
    start = time.perf_counter()
    out = torch.nn.functional.scaled_dot_product_attention(
      self.q, self.k, self.v, enable_gqa=True
    )
    seconds = time.perf_counter() - start
    return {"seconds": seconds, "out": out.flatten()[:4].tolist()}

  def products(self) -> dict:
    """Attends by two batched products, which shares keys within a group."""
    start = time.perf_counter()
    kv_heads, width = self.k.shape[1], self.k.shape[3]
    q = self.q.view(kv_heads, -1, width)
    scores = torch.bmm(q, self.k[0].transpose(1, 2)) * width**-0.5
    out = torch.bmm(scores.softmax(-1), self.v[0])
    seconds = time.perf_counter() - start
    return {"seconds": seconds, "out": out.flatten()[:4].tolist()}


if __name__ == "__main__":
  with torch.inference_mode():
    peer_loop.serve(Worker())
