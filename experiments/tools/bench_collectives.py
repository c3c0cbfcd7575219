"""Times collectives by algorithm, in the columns of nccl-tests.

  python -m experiments.tools.bench_collectives --mesh=node=4,local=2

  python -m research.cluster.launch --network=4x2,alpha=1ms,bw=1Gb --devices=1 \
    -- python -m experiments.tools.bench_collectives --mesh=node=4,local=2

As there: `size` is the larger of the two buffers of a rank, `count` the
elements of its smaller one, algbw is size over time, busbw is algbw times
2(n-1)/n for an all-reduce and (n-1)/n otherwise, and `#wrong` counts the
elements, over all ranks, that differ from the right ones, for data that depend
on rank and index. Other than there: `time` is the median over iterations, in
each of which the slowest process counts, and `min` and `p95` stand beside it;
algorithms take turns within an iteration; the time is the host's, so the
dispatch of JAX is in it. Within one process there is no transport, and
bandwidths are left out.
"""

import json
import pathlib
from collections.abc import Callable, Sequence
from typing import Any

from absl import flags

from experiments.tools import timed_collectives
from research import cluster, runs

_COLLECTIVE = flags.DEFINE_enum(
  "collective",
  "all_reduce",
  ["all_reduce", "all_gather", "reduce_scatter"],
  "What to time.",
)
_ALGORITHMS = flags.DEFINE_list(
  "algorithms", ["xla", "ring"], "Algorithms of that collective."
)
_MIN_BYTES = flags.DEFINE_string("min_bytes", "1K", "The smallest size.")
_MAX_BYTES = flags.DEFINE_string("max_bytes", "4M", "The largest size.")
_FACTOR = flags.DEFINE_integer("factor", 4, "From size to size.", lower_bound=2)
_SIZES = flags.DEFINE_list(
  "sizes", [], "These sizes, in place of min_bytes, max_bytes and factor."
)
_DTYPE = flags.DEFINE_string("dtype", "float32", "Of the elements.")
_OP = flags.DEFINE_enum(
  "op", "sum", ["sum", "max", "mean"], "Of an all-reduce."
)
_WARMUP = flags.DEFINE_integer(
  "warmup", 5, "Calls that do not count.", lower_bound=1
)
_ITERS = flags.DEFINE_integer("iters", 20, "Calls that do.", lower_bound=1)
_MESH = flags.DEFINE_string("mesh", "node=4,local=2", "Axes and their sizes.")
_JSON = flags.DEFINE_string("json", None, "Also write the rows to this file.")


def _reads(parse: Callable[[Any], object]) -> Callable[[Any], bool]:
  def check(text: str | list[str]) -> bool:
    try:
      parse(text)
    except ValueError as error:
      raise flags.ValidationError(str(error)) from error
    return True

  return check


for _name in ("min_bytes", "max_bytes"):
  flags.register_validator(_name, _reads(timed_collectives.parse_bytes))
flags.register_validator(
  "sizes",
  _reads(lambda sizes: [timed_collectives.parse_bytes(s) for s in sizes]),
)
flags.register_validator("mesh", _reads(timed_collectives.parse_mesh))

_COLUMNS = (
  "{:>12}{:>12}{:>10}{:>8}  {:<28}{:>11}{:>9}{:>9}{:>7}{:>11}{:>11}".format
)


def main(argv: Sequence[str]) -> None:
  """Times all sizes; process 0 prints a row as soon as it is there."""
  del argv
  import jax

  bench = timed_collectives.Bench(
    **settings(), shape=timed_collectives.parse_mesh(_MESH.value)
  )
  report(bench, first=jax.process_index() == 0)


def settings() -> dict[str, Any]:
  """Returns what the flags say of a `Bench`, but for its mesh."""
  return {
    "collective": _COLLECTIVE.value,
    "algorithms": tuple(_ALGORITHMS.value),
    "dtype": _DTYPE.value,
    "op": _OP.value,
    "warmup": _WARMUP.value,
    "iters": _ITERS.value,
  }


def report(bench: timed_collectives.Bench, *, first: bool) -> None:
  """Times all sizes.

  Args:
    bench: what to time.
    first: whether this is the process that prints and writes.
  """
  if first:
    print(header(bench), flush=True)
  rows = []
  for row in bench.rows(_sizes()):
    rows.append(row)
    if first:
      print(line(row), flush=True)
  if first:
    keep([row.to_json() for row in rows])


def keep(found: Any) -> None:
  """Writes what was found to the file of `--json`, if there is one.

  Args:
    found: whatever JSON holds.
  """
  if _JSON.value:
    text = json.dumps(found, indent=2)
    pathlib.Path(_JSON.value).write_text(text + "\n")


def _sizes() -> list[int]:
  parse = timed_collectives.parse_bytes
  if _SIZES.value:
    return [parse(size) for size in _SIZES.value]
  smallest, largest = parse(_MIN_BYTES.value), parse(_MAX_BYTES.value)
  return timed_collectives.sizes(smallest, largest, _FACTOR.value)


def header(bench: timed_collectives.Bench) -> str:
  """Returns what stands above the rows.

  Args:
    bench: what is to be timed.
  """
  names = "size count type redop algorithm time algbw busbw #wrong min p95"
  units = "(B) (elements) - - - (us) (GB/s) (GB/s) - (us) (us)"
  return "\n".join(
    (
      f"# {bench.collective} over {dict(bench.shape)}: {bench.transport}",
      f"# {bench.warmup} calls to warm up, then {bench.iters}, the algorithms"
      " in turns; time: median of the slowest process's",
      "#" + _COLUMNS(*names.split())[1:],
      "#" + _COLUMNS(*units.replace(" -", " ~").split())[1:].replace("~", " "),
    )
  )


def line(row: timed_collectives.Row) -> str:
  """Returns a row as it is printed.

  Args:
    row: what was measured.
  """
  return _COLUMNS(
    row.size,
    row.count,
    row.dtype,
    row.op,
    row.algorithm,
    f"{row.median_us:.1f}",
    "-" if row.algbw is None else f"{row.algbw:.3g}",
    "-" if row.busbw is None else f"{row.busbw:.3g}",
    row.wrong,
    f"{row.min_us:.1f}",
    f"{row.p95_us:.1f}",
  )


if __name__ == "__main__":
  cluster.setup()
  runs.launch(main)
