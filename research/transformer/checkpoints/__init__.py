"""Decoder weights in and out: GGUF, Hugging Face safetensors, orbax."""

from research.transformer.checkpoints.model import CheckpointError, Model

__all__ = ["CheckpointError", "Model"]
