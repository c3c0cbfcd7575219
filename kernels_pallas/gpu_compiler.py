"""Compiles one kernel's Triton IR for a GPU; needs no GPU and no driver.

`lowered.assert_resources` runs this file with the Python of an environment that
has the `triton` wheel: PYTHON gpu_compiler.py IR_FILE SM NUM_WARPS NUM_STAGES.
It prints one line of JSON.
"""

import json
import pathlib
import re
import subprocess
import sys
import tempfile


def _tool(name: str, option: str, cubin: bytes) -> str:
  """Runs a tool that the wheel ships on a compiled kernel."""
  import triton

  (wheel,) = triton.__path__
  tool = pathlib.Path(wheel, "backends", "nvidia", "bin", name)
  with tempfile.NamedTemporaryFile(suffix=".cubin") as file:
    file.write(cubin)
    file.flush()
    command = [tool, option, file.name]
    return subprocess.run(
      command, capture_output=True, text=True, check=True
    ).stdout


def _inspect(ir_file: str, sm: int, num_warps: int, num_stages: int) -> dict:
  """Compiles, and reads what the assembler decided."""
  import triton
  from triton.backends import compiler

  kernel = triton.compile(
    ir_file,
    target=compiler.GPUTarget("cuda", sm, 32),
    options={"num_warps": num_warps, "num_stages": num_stages},
  )
  cubin = kernel.asm["cubin"]
  usage = _tool("cuobjdump", "--dump-resource-usage", cubin)
  used = dict(re.findall(r"(REG|STACK|LOCAL):(\d+)", usage))
  sass = _tool("cuobjdump", "-sass", cubin)
  loads = re.findall(r"(@!?U?P\d+)?\s+(LDG|LDGSTS)\.\S+", sass)
  return {
    "registers": int(used["REG"]),
    "stack_bytes": int(used["STACK"]) + int(used.get("LOCAL", 0)),
    "shared_bytes": kernel.metadata.shared,
    "spill_instructions": len(re.findall(r"\b(?:STL|LDL)\b", sass)),
    "loads": len(loads),
    "predicated_loads": sum(bool(predicate) for predicate, _ in loads),
    "sass": sass,
  }


def main(argv: list[str]) -> None:
  """Compiles as the command line says."""
  ir_file, *numbers = argv
  print(json.dumps(_inspect(ir_file, *map(int, numbers))))


if __name__ == "__main__":
  main(sys.argv[1:])
