"""The handler compiles for GPUs, and its machine code is what it should be."""

import pathlib
import re
import subprocess

import pytest

from kernels_pallas import gpucc, native_build
from kernels_pallas.hierarchical_all_reduce.nvshmem import library

_TOOLS = "lib/python*/site-packages/triton/backends/nvidia/bin/cuobjdump"
_POLL = "LDG.E.64.STRONG.SYS"


def _built(architecture: int) -> pathlib.Path:
  """The library; skips where nvcc or NVSHMEM is missing."""
  try:
    library.nvcc()
    library.nvshmem_home()
  except native_build.NativeError as error:
    pytest.skip(str(error))
  return library.build(architecture)


def _kernels(path: pathlib.Path) -> dict[tuple[str, str], str]:
  """Symbol of each kernel, by its element and its protocol."""
  pattern = rb"_ZN6dectet10inter_nodeINS_\d(\w+?)ENS_\d(\w+?)EEEv\w+?S8_\b"
  found = re.finditer(pattern, path.read_bytes())
  return {(x[1].decode(), x[2].decode()): x[0].decode() for x in found}


def _sass(path: pathlib.Path, symbol: str) -> list[tuple[int, str]]:
  """A kernel's instructions with their addresses."""
  root = pathlib.Path(gpucc.python()).absolute().parent.parent
  (tool,) = root.glob(_TOOLS)
  command = [str(tool), "-sass", "-fun", symbol, str(path)]
  text = subprocess.run(command, capture_output=True, text=True).stdout
  lines = re.findall(r"/\*([0-9a-f]{4,})\*/ +([^;]+?) *;", text)
  return [(int(address, 16), code) for address, code in lines]


def _polls(sass: list[tuple[int, str]]) -> list[str]:
  """Loops that load 8 bytes from memory that others write, and sleep."""
  loops = []
  for address, code in sass:
    jump = re.search(r"\bBRA (0x[0-9a-f]+)", code)
    if jump is None or int(jump[1], 16) > address:
      continue
    body = [x for at, x in sass if int(jump[1], 16) <= at <= address]
    loops.append("\n".join(body))
  return [x for x in loops if _POLL in x and "NANOSLEEP" in x]


def _stores_of_cells(sass: list[tuple[int, str]]) -> int:
  """Stores of 8 bytes, those of the failure's record left out."""
  return sum(
    bool(re.search(r"STG\.E\.64\.STRONG\.SYS desc\S*\[R\d+\.64\],", code))
    for _, code in sass
  )


def test_it_links_and_has_its_symbols():
  path = _built(90)
  made = library.Library(path)
  assert made.handler is not None
  assert made.unique_id_bytes == 128
  kernels = {(x, y) for x in ("Float32", "Bfloat16") for y in ("Ll8", "Simple")}
  assert set(_kernels(path)) == kernels


def test_ll8_stores_cells_and_polls_their_flags():
  path = _built(90)
  sass = _sass(path, _kernels(path)["Float32", "Ll8"])
  assert _stores_of_cells(sass) >= 2  # its own, and a peer's within reach
  polls = _polls(sass)
  assert any("CCTL.IVALL" not in x for x in polls)  # relaxed: of a flag
  assert any("CCTL.IVALL" in x for x in polls)  # acquire: an acknowledgement


def test_simple_acquires_its_signals():
  path = _built(90)
  sass = _sass(path, _kernels(path)["Float32", "Simple"])
  assert _stores_of_cells(sass) == 0
  polls = _polls(sass)
  assert len(polls) >= 2  # arrived, and acknowledged
  assert all("CCTL.IVALL" in x for x in polls)


@pytest.mark.parametrize(
  "architecture", [90, pytest.param(80, marks=pytest.mark.slow)]
)
def test_every_kernel_fences_traps_and_does_not_spill(architecture):
  path = _built(architecture)
  for symbol in _kernels(path).values():
    code = "\n".join(code for _, code in _sass(path, symbol))
    assert "MEMBAR.SC.SYS" in code
    assert "BPT.TRAP" in code  # a timeout is an error
    assert not re.search(r"\bLDL\b", code)  # nor reads what it has spilled


@pytest.mark.parametrize(
  ("communicator", "protocol", "known", "message"),
  [
    (3, 0, True, r"communicator: got 3, expected one .*; call start\(\) first"),
    (-1, 0, True, "communicator: got -1, expected"),
    (0, 2, True, r"protocol: got 2, expected 0 \(ll8\) or 1 \(simple\)"),
    (0, 1, False, "x: got another dtype, expected float32 or bfloat16; cast"),
  ],
)
def test_the_handler_says_what_is_wrong_with_its_arguments(
  communicator, protocol, known, message
):
  made = library.Library(_built(90))
  with pytest.raises(native_build.NativeError, match=message):
    made.check(communicator, protocol, 8, known=known)


def test_without_a_compiler_it_says_so(monkeypatch, tmp_path):
  monkeypatch.setenv("CUDA_HOME", str(tmp_path))
  with pytest.raises(
    native_build.NativeError, match="expected CUDA's compiler"
  ):
    library.nvcc()


def test_without_nvshmem_it_says_so(monkeypatch, tmp_path):
  monkeypatch.setenv("NVSHMEM_HOME", str(tmp_path))
  with pytest.raises(
    native_build.NativeError, match="got no NVSHMEM, expected"
  ):
    library.nvshmem_home()
