"""Writes vocabulary-only GGUF files, for tests and for recording goldens."""

import pathlib

import gguf


def write(
  path: pathlib.Path,
  *,
  tokens: list[str],
  merges: list[str],
  pre: str,
  control: tuple[str, ...] = (),
  model: str = "gpt2",
) -> pathlib.Path:
  """Writes a byte-level BPE vocabulary; `control` tokens are special."""
  writer = gguf.GGUFWriter(path, "llama")
  writer.add_tokenizer_model(model)
  writer.add_tokenizer_pre(pre)
  writer.add_token_list(tokens)
  writer.add_token_merges(merges)
  kinds = gguf.TokenType
  writer.add_token_types(
    [kinds.CONTROL if t in control else kinds.NORMAL for t in tokens]
  )
  writer.add_bos_token_id(0)
  writer.add_eos_token_id(1)
  writer.write_header_to_file()
  writer.write_kv_data_to_file()
  writer.write_tensors_to_file()
  writer.close()
  return path
