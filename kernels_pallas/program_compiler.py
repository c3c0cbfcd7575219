"""Compiles a whole program for H100s with XLA; needs no GPU and no driver.

`programs.assert_compiles` runs this file with the Python of an environment that
has JAX's CUDA plugin: PYTHON program_compiler.py MODULE_FILE TOPOLOGY OPTIONS
HANDLERS, the last two as JSON. It prints one line of JSON.
"""

import ctypes
import importlib.util
import json
import os
import pathlib
import sys
import tempfile

os.environ["JAX_PLATFORMS"] = "cpu"
os.environ["JAX_SKIP_CUDA_CONSTRAINTS_CHECK"] = "1"
os.environ["XLA_FLAGS"] = "--xla_gpu_autotune_level=0"  # would run on a GPU

# What XLA asks of a device: the data sheet of an H100 SXM5 with CUDA 13.
_H100 = """
gpu_device_info {
  threads_per_block_limit: 1024 threads_per_warp: 32
  shared_memory_per_block: 49152 shared_memory_per_core: 233472
  shared_memory_per_block_optin: 232448 threads_per_core_limit: 2048
  core_count: 132 fpus_per_core: 128 registers_per_core_limit: 65536
  registers_per_block_limit: 65536 block_dim_limit_x: 2147483647
  block_dim_limit_y: 65535 block_dim_limit_z: 65535
  memory_bandwidth: 3352320000000 l2_cache_size: 52428800
  clock_rate_ghz: 1.98 device_memory_size: 84942979072
  cuda_compute_capability { major: 9 minor: 0 }
}
platform_name: "CUDA"
dnn_version_info { major: 9 minor: 10 patch: 1 }
runtime_version { major: 13 minor: 0 patch: 0 }
device_description_str: "NVIDIA H100 80GB HBM3"
"""


def _compile(
  module_file: str, topology: str, flags: dict, handlers: dict
) -> dict:
  """Compiles, and reads what XLA decided."""
  import jax
  import numpy as np
  from jax._src import compiler
  from jax._src.interpreters import mlir
  from jax._src.lib import xla_client
  from jax.experimental import topologies
  from jaxlib.mlir import ir

  plugin = importlib.util.find_spec("jax_cuda13_plugin")
  assert plugin is not None
  assert plugin.origin is not None
  library = pathlib.Path(plugin.origin).with_name("libmosaic_gpu_runtime.so")
  os.environ["MOSAIC_GPU_RUNTIME_LIB_PATH"] = str(library)
  for target, file in handlers.items():
    handler = jax.ffi.pycapsule(getattr(ctypes.CDLL(file), target))
    jax.ffi.register_ffi_target(target, handler, platform="CUDA")
  devices = topologies.get_topology_desc(
    platform="cuda", target_config=_H100, topology=topology
  ).devices
  options = compiler.get_compile_options(
    num_replicas=1,
    num_partitions=len(devices),
    device_assignment=np.array([[device.id for device in devices]]),
    env_options_overrides=flags,
  )
  dump = tempfile.TemporaryDirectory()
  os.environ["MOSAIC_GPU_DUMP_TO"] = dump.name
  os.environ["MOSAIC_GPU_DUMP_PTX"] = os.environ["MOSAIC_GPU_DUMP_PTXAS"] = "1"
  with dump, mlir.make_ir_context():
    module = ir.Module.parse(pathlib.Path(module_file).read_bytes())
    executable = compiler.backend_compile_and_load(
      devices[0].client,
      module,
      xla_client.DeviceList(tuple(devices)),
      options,
      [],
    )
    ptx, ptxas = (_read_all(dump.name, x) for x in ("*.ptx", "*.ptxas"))
  memory = executable.get_compiled_memory_stats()
  (program,) = executable.hlo_modules()
  return {
    "argument_bytes": memory.argument_size_in_bytes,
    "output_bytes": memory.output_size_in_bytes,
    "alias_bytes": memory.alias_size_in_bytes,
    "temp_bytes": memory.temp_size_in_bytes,
    "hlo": program.to_string(),
    "ptx": ptx,
    "ptxas": ptxas,
  }


def _read_all(folder: str, pattern: str) -> str:
  files = sorted(pathlib.Path(folder).glob(pattern))
  return "\n".join(file.read_text(encoding="utf-8") for file in files)


def main(argv: list[str]) -> None:
  """Compiles as the command line says."""
  module_file, topology, *extra = argv
  print(json.dumps(_compile(module_file, topology, *map(json.loads, extra))))


if __name__ == "__main__":
  main(sys.argv[1:])
