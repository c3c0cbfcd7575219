"""Writes a GGUF file again with every tensor in float32, for llama.cpp.

llama.cpp quantises activations to match quantised weights; a float32 file of
the very same (dequantised) tensors is the fair oracle.
"""

import logging
import pathlib

import gguf as gguf_writer

from research.data import gguf


def write_float32(source: pathlib.Path, target: pathlib.Path) -> None:
  """Copies metadata and writes every tensor dequantised.

  Args:
    source: any GGUF file that `research.data.gguf` reads.
    target: the file to write.
  """
  logging.getLogger("gguf").setLevel(logging.WARNING)
  file = gguf.GGUFFile.open(source)
  reader = gguf_writer.GGUFReader(source)
  partial = target.with_suffix(".partial")
  writer = gguf_writer.GGUFWriter(
    partial, file.metadata["general.architecture"]
  )
  for field in reader.fields.values():
    if field.name.startswith("GGUF.") or field.name == "general.architecture":
      continue
    kind, *inner = field.types
    value = field.contents()
    if field.name == "general.file_type":
      value = int(gguf_writer.LlamaFileType.ALL_F32)
    writer.add_key_value(
      field.name, value, kind, sub_type=inner[0] if inner else None
    )
  for name in file.tensors:
    writer.add_tensor(name, file.load(name))
  writer.write_header_to_file()
  writer.write_kv_data_to_file()
  writer.write_tensors_to_file()
  writer.close()
  partial.rename(target)
