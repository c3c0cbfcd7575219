"""Published sets of parameters, by name."""

import enum
from collections.abc import Mapping
from typing import Any


class Preset(enum.StrEnum):
  """Whose parameters a scenario starts from.

  `nm`, `ny` and `fl` are LANL's configurations of EpiCast for three states; the
  first is also the default of every key. `epicast2` is the Epicast 2.0 paper's
  column, with `p_trans` in the middle of its range of .06 to .08. `exaepi` is
  ExaEpi's default, which has whole schools where EpiCast has classes.

  References:
    Alexander et al., Epicast 2.0, arXiv 2504.03604; on GitHub
    `lanl/epicast_heterogeneity` and `AMReX-Codes/ExaEpi`.
  """

  NM = "nm"
  NY = "ny"
  FL = "fl"
  EPICAST2 = "epicast2"
  EXAEPI = "exaepi"


_TABLES: Mapping[Preset, Mapping[str, Any]] = {
  Preset.NM: {},
  Preset.NY: {"contacts": {"p_trans": 0.068, "class_factor": 9.2}},
  Preset.FL: {
    "contacts": {"p_trans": 0.072, "work_factor": 1.1, "class_factor": 5.2}
  },
  Preset.EPICAST2: {
    "contacts": {
      "p_trans": 0.07,
      "household_factor": 1.0,
      "work_factor": 0.65,
      "class_factor": 4.2,
      "cluster_factor": 1.65,
      "neighbourhood_factor": 1.65,
      "community_factor": 1.65,
    }
  },
  Preset.EXAEPI: {
    "contacts": {
      "p_trans": 0.20,
      "household_factor": 1.0,
      "work_factor": 0.5,
      "class_factor": 0.3,
      "cluster_factor": 0.5,
      "neighbourhood_factor": 1.45,
      "community_factor": 1.45,
      "classes": [0.15, 0.145, 0.125, 0.105],
    }
  },
}


def under(preset: Preset, raw: Mapping[str, Any]) -> dict[str, Any]:
  """Puts a preset under what a file says; the file wins.

  Args:
    preset: by name.
    raw: the file's tables.

  Example:
    >>> under(Preset.NY, {"contacts": {"p_trans": 0.1}})["contacts"]
    {'p_trans': 0.1, 'class_factor': 9.2}
  """
  merged = dict(raw)
  for name, table in _TABLES[preset].items():
    own = raw.get(name, {})
    # What is no table is left for the reader to refuse.
    merged[name] = {**table, **own} if isinstance(own, Mapping) else own
  return merged
