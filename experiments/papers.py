"""The ten papers, and which of them are built."""

import dataclasses
from typing import Literal


@dataclasses.dataclass(frozen=True, kw_only=True)
class Paper:
  """One row of the table of papers.

  Attributes:
    slug: its name in folders, commands and tests.
    title: the title of the paper.
    arxiv: its arXiv id.
    about: what the system is, in one line.
    status: `available` once `experiments/<slug>` runs.
    headline: the id of the claim that stands for the paper in summaries; empty
      while planned.
    needs_data: entries of `third_party/artifacts.toml` that a run fetches.
    needs_programs: programs that must be on PATH, or else it is skipped.
  """

  slug: str
  title: str
  arxiv: str
  about: str
  status: Literal["available", "planned"] = "planned"
  headline: str = ""
  needs_data: tuple[str, ...] = ()
  needs_programs: tuple[str, ...] = ()


PAPERS = (
  Paper(
    slug="sift_attention",
    title="Power Law Guided Dynamic Sifting for Efficient Attention",
    arxiv="2506.05300",
    about="Threshold attention guided by a power law (SiftAttention).",
    status="available",
    headline="average-law",
    needs_data=("smollm2-135m-instruct", "shakespeare"),
  ),
  Paper(
    slug="multinode_inference",
    title=(
      "Understanding and Improving Communication Performance in Multi-node "
      "LLM Inference"
    ),
    arxiv="2511.09557",
    about=(
      "The NVRAR all-reduce and the YALIS engine; where inference time goes "
      "across nodes."
    ),
    status="available",
    headline="nvrar-over-rivals",
  ),
  Paper(
    slug="pccl",
    title=(
      "The Big Send-off: Scalable and Performant Collectives for Deep Learning"
    ),
    arxiv="2504.18658",
    about=(
      "Hierarchical all-gather and reduce-scatter with learned dispatch, and "
      "sharded training on them."
    ),
    status="available",
    headline="all-gather-over-ring",
  ),
  Paper(
    slug="speculative_tools",
    title=(
      "Optimizing Agentic Language Model Inference via Speculative Tool Calls"
    ),
    arxiv="2512.15834",
    about=(
      "Speculative tool calls, resident sequences and a tool-cache endpoint."
    ),
  ),
  Paper(
    slug="plexus",
    title=(
      "Plexus: Taming Billion-edge Graphs with 3D Parallel Full-graph GNN "
      "Training"
    ),
    arxiv="2505.04083",
    about="3D-parallel full-graph training of graph neural networks.",
  ),
  Paper(
    slug="epicast",
    title=(
      "Simulating nationwide coupled disease and fear spread in an "
      "agent-based model"
    ),
    arxiv="2506.07842",
    about=(
      "An agent-based epidemic with coupled fear, and its compartmental "
      "surrogates."
    ),
    status="available",
    headline="broadcaster-waves",
  ),
  Paper(
    slug="vlm_grafting",
    title="Zero-Shot Vision Encoder Grafting via LLM Surrogates",
    arxiv="2505.22664",
    about="Vision encoders trained on small surrogates of a language model.",
  ),
  Paper(
    slug="pareval_repo",
    title=(
      "ParEval-Repo: A Benchmark Suite for Evaluating LLMs with "
      "Repository-level HPC Translation Tasks"
    ),
    arxiv="2506.20938",
    about="Translating whole repositories between execution models.",
  ),
  Paper(
    slug="perf_tools_rl",
    title=(
      "Integrating Performance Tools in Model Reasoning for GPU Kernel "
      "Optimization"
    ),
    arxiv="2510.17158",
    about="Performance tools inside a model's reasoning, trained by GRPO.",
  ),
  Paper(
    slug="code_graph_lm",
    title="Modeling Code: Is Text All You Need?",
    arxiv="2507.11467",
    about=(
      "Code as text and as graphs of its intermediate form, a soft prompt into "
      "a frozen language model."
    ),
  ),
)
