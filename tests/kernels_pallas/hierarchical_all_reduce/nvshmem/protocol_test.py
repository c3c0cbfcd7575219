"""The protocol's own code, run on threads instead of GPUs.

g++ compiles protocol.h with `threads.cc`, whose network is late, out of order,
and reads what it sends only when it sends it. ThreadSanitizer watches. A real
execution of the code that nvcc compiles, but for the stores and loads
themselves; no speed comes of it.
"""

import functools
import hashlib
import json
import pathlib
import shutil
import subprocess
import tempfile

import ml_dtypes
import numpy as np
import pytest

from kernels_pallas import native_build
from kernels_pallas.hierarchical_all_reduce import nvshmem

_THREADS = pathlib.Path(__file__).with_name("threads.cc")
_PROTOCOL = pathlib.Path(*nvshmem.__path__, "protocol.h")
_FLAGS = ("-std=c++20", "-O0", "-g", "-fsanitize=thread", "-pthread")
_LENGTHS = (1, 7, 33, 101, 0, 64, 15)  # fewer and more chunks than blocks
_PATIENCE = 20_000  # milliseconds

# What is replaced, and by what: each takes one thing from the protocol.
_MUTANTS = {
  "one slot for all steps": (
    "return start + exchange * chunks() * chunk;",
    "return start + 0 * exchange;",
  ),
  "stale flag": ("1 + (sequence - 1) % 0xffffffffu", "sequence > 0"),
  "no wait for flags": (
    "if (exact ? seen == expected",
    "if (exact ? true",
  ),
  "no wait for signals": (
    "exact ? seen == expected : seen >= expected",
    "!exact || seen == expected",
  ),
  "no wait for acknowledgements": (
    "= *call.scratch.last(protocol, block);",
    "= 0 * block * protocol;",
  ),
  "acknowledged before it is read": (
    "if (hears && wire.thread() == 0) {",
    "if (false) {",
    "bool ok = true;\n    for (int64_t begin = first;",
    "if (hears && wire.thread() == 0) wire.signal(scratch.read("
    "Rules<Wire>::kProtocol, step, wire.block()), call.sequence, "
    "call.plan.exchange[step].from);\n"
    "    bool ok = true;\n    for (int64_t begin = first;",
  ),
}
_QUICK = "no wait for acknowledgements"


@functools.cache
def _program(mutant: str | None = None, define: str = "") -> pathlib.Path:
  """The compiled threads, of the protocol or of a mutant of it."""
  compiler = shutil.which("g++")
  if compiler is None:
    pytest.skip("no g++ to run the protocol with")
  text = _PROTOCOL.read_text(encoding="utf-8")
  changes = _MUTANTS[mutant] if mutant else ()
  for old, new in zip(changes[::2], changes[1::2], strict=True):
    assert text.count(old) == 1, old
    text = text.replace(old, new)
  version = subprocess.run([compiler, "--version"], capture_output=True).stdout
  key = repr((version, _FLAGS, define, text)).encode() + _THREADS.read_bytes()
  digest = hashlib.sha256(key).hexdigest()[:24]
  defines = [f"-D{define}"] if define else []
  with tempfile.TemporaryDirectory() as folder:
    pathlib.Path(folder, "protocol.h").write_text(text, encoding="utf-8")
    command = [compiler, *_FLAGS, *defines, f"-I{folder}", str(_THREADS)]
    return native_build.build(f"threads-{digest}", command)


def _run(
  program: pathlib.Path,
  nodes: int,
  *,
  lengths=_LENGTHS,
  reach: bool = False,
  absent: int = -1,
  patience: int = _PATIENCE,
  seed: int = 0,
  first: int = 1,
) -> tuple[dict, int, str]:
  """What came out, the exit status (66: a data race), and standard error."""
  shape = nodes, 2, 2, 16  # blocks, threads of a block, words of a chunk
  numbers = (*shape, int(reach), absent, patience, seed, first, *lengths)
  done = subprocess.run(
    [str(program), *map(str, numbers)], capture_output=True, text=True
  )
  return json.loads(done.stdout), done.returncode, done.stderr[:2000]


@pytest.mark.parametrize("reach", [False, True], ids=["sent", "stored"])
@pytest.mark.parametrize("nodes", [1, 2, 3, 4, 5, 7, 8])
def test_trap_06_sums_are_exact_and_free_of_races(nodes, reach):
  got, status, error = _run(_program(), nodes, reach=reach, seed=nodes)
  assert got["calls"] == 4 * len(_LENGTHS)
  assert (got["failed"], got["wrong"], status) == (0, 0, 0), error


def test_flags_that_wrap_around_are_never_those_of_unused_memory():
  got, status, error = _run(_program(), 3, first=2**32 - 9)
  assert (got["failed"], got["wrong"], status) == (0, 0, 0), error


@pytest.mark.parametrize("nodes", [2, pytest.param(5, marks=pytest.mark.slow)])
def test_a_rank_that_stays_out_is_named_in_time(nodes):
  got, _, _ = _run(_program(), nodes, absent=1, patience=1000, lengths=(33, 7))
  assert (got["failed"], got["wrong"]) == (1, 0)
  assert got["expected"] == 3 > got["seen"]
  assert got["peer"] in {2: (3,), 5: (1, 3, 5, 7, 9)}[nodes]  # PEs: 1, 3, ...


@pytest.mark.parametrize(
  "mutant",
  [
    pytest.param(x, marks=() if x == _QUICK else pytest.mark.slow)
    for x in _MUTANTS
  ],
)
def test_trap_06_mutants_are_caught(mutant):
  assert any(_is_caught(_program(mutant)))


@pytest.mark.slow
def test_trap_06_a_flag_that_comes_before_its_data_is_caught():
  """A network that tears cells, as the protocol trusts it not to."""
  assert any(_is_caught(_program(define="FLAG_FIRST=1")))


def _is_caught(program):
  """Whether runs end wrong, late, or with a race; from few ranks to more."""
  cases = [(2, (97,) * 10), (4, _LENGTHS), (4, (33,) * 10)]
  for seed, (nodes, lengths) in enumerate(cases * 2):
    got, status, _ = _run(
      program, nodes, lengths=lengths, patience=1000, seed=seed
    )
    yield got["wrong"] or got["failed"] or status


def test_the_runs_that_catch_mutants_pass_without_them():
  cases = [(2, (97,) * 10), (4, (33,) * 10)]
  for nodes, lengths in cases:
    got, status, error = _run(_program(), nodes, lengths=lengths)
    assert (got["failed"], got["wrong"], status) == (0, 0, 0), error


def test_bfloat16_sums_round_as_ml_dtypes_does():
  rng = np.random.default_rng(0)
  bits = rng.integers(0, 1 << 16, (2, 400)).astype(np.uint16)
  a, b = bits.view(ml_dtypes.bfloat16)
  words = (bits[:, ::2].astype(np.uint32) << 16) | bits[:, 1::2]
  arguments = [str(x) for x in words.T.reshape(-1)]
  done = subprocess.run(
    [str(_program()), "add", *arguments], capture_output=True, text=True
  )
  sums = np.array(done.stdout.split(), np.uint32)
  got = np.stack([sums >> 16, sums & 0xFFFF], 1).astype(np.uint16).reshape(-1)
  with np.errstate(all="ignore"):
    total = a.astype(np.float32) + b.astype(np.float32)
  np.testing.assert_array_equal(
    got.view(ml_dtypes.bfloat16).astype(np.float32),
    total.astype(ml_dtypes.bfloat16).astype(np.float32),
  )
