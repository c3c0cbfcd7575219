"""Where each parameter lives in other people's checkpoints."""

from collections.abc import Mapping

from research.transformer.checkpoints import layout

Names = Mapping[str, tuple[str, ...]]

_TOP_HF: Names = {
  "embedding": ("model.embed_tokens.weight",),
  "norm.scale": ("model.norm.weight",),
  "head": ("lm_head.weight",),
}
_TOP_GGUF: Names = {
  "embedding": ("token_embd.weight",),
  "norm.scale": ("output_norm.weight",),
  "head": ("output.weight",),
}
_BLOCK_HF: Names = {
  "attention_norm.scale": ("input_layernorm.weight",),
  "mlp_norm.scale": ("post_attention_layernorm.weight",),
  "attention.qkv.kernel": tuple(f"self_attn.{x}_proj.weight" for x in "qkv"),
  "attention.qkv.bias": tuple(f"self_attn.{x}_proj.bias" for x in "qkv"),
  "attention.q_norm.scale": ("self_attn.q_norm.weight",),
  "attention.k_norm.scale": ("self_attn.k_norm.weight",),
  "attention.out": ("self_attn.o_proj.weight",),
  "mlp.gate_up": ("mlp.gate_proj.weight", "mlp.up_proj.weight"),
  "mlp.down": ("mlp.down_proj.weight",),
}
_BLOCK_GGUF: Names = {
  "attention_norm.scale": ("attn_norm.weight",),
  "mlp_norm.scale": ("ffn_norm.weight",),
  "attention.qkv.kernel": tuple(f"attn_{x}.weight" for x in "qkv"),
  "attention.qkv.bias": tuple(f"attn_{x}.bias" for x in "qkv"),
  "attention.q_norm.scale": ("attn_q_norm.weight",),
  "attention.k_norm.scale": ("attn_k_norm.weight",),
  "attention.out": ("attn_output.weight",),
  "mlp.gate_up": ("ffn_gate.weight", "ffn_up.weight"),
  "mlp.down": ("ffn_down.weight",),
}


def hugging_face(path: layout.Path) -> tuple[str, ...]:
  """Returns the names in a Hugging Face checkpoint.

  Example:
    >>> hugging_face(("blocks", 3, "mlp", "down"))
    ('model.layers.3.mlp.down_proj.weight',)
  """
  return _names(path, _TOP_HF, _BLOCK_HF, "model.layers")


def gguf(path: layout.Path) -> tuple[str, ...]:
  """Returns the names in a GGUF file.

  Example:
    >>> gguf(("blocks", 3, "mlp", "gate_up"))
    ('blk.3.ffn_gate.weight', 'blk.3.ffn_up.weight')
  """
  return _names(path, _TOP_GGUF, _BLOCK_GGUF, "blk")


def _names(
  path: layout.Path, top: Names, block: Names, prefix: str
) -> tuple[str, ...]:
  if path[0] != "blocks":
    return top[".".join(map(str, path))]
  inner = block[".".join(map(str, path[2:]))]
  return tuple(f"{prefix}.{path[1]}.{name}" for name in inner)
