"""Attack rates and reproduction numbers of finished runs."""

import pathlib
from typing import Any

import numpy as np
from jaxtyping import Float, Int

from research.runs import files
from research.systems.epicast import disease as disease_lib
from research.systems.epicast import eventlog, events, outputs, tree
from research.systems.epicast.disease import CONTEXTS

WINDOW = 7  # days over which R is taken to be constant
_SHAPE, _SCALE = 1.0, 5.0  # of the gamma prior of R; Cori et al.'s
_ENOUGH = 1 / 0.3**2  # posterior coefficient of variation up to .3; theirs


def generation_interval(
  disease: disease_lib.Disease,
) -> Float[np.ndarray, " days"]:
  r"""Distribution of the days from one's infection to those one causes.

  From the natural history alone: with chances $f_L$ of E lasting $L$ half-days
  and $F_D$ of Is or Ia lasting more than $D$, the infectiousness $k$ half-days
  after infection is

  $$a_k = \sum_L f_L \, (\rho\,[0 \le k - L < P]
    + (1 - p + p\rho)\, F_D(k - L - P) [k - L \ge P])$$

  with $P$ the half-days of stage P, $p$ the asymptomatic share and $\rho$ the
  relative infectiousness. Infection is as likely by day as by night; an
  infection of day $t$ that one of day $t - s$ causes counts for $w_s$. Staying
  at home and the exhaustion of small groups shorten the true intervals; both
  are left out.

  Args:
    disease: natural history.

  Returns:
    $w_0 = 0, w_1, ...$, which add up to 1.

  References:
    Svensson, A note on generation times in epidemic models, Mathematical
    Biosciences 208, 2007.

  Example:
    >>> one = disease_lib.Disease(
    ...   latent_cdf=(1.0,), infectious_cdf=(1.0,), infectious_first=1,
    ...   rel_trans_asymptomatic=1.0,
    ... )
    >>> generation_interval(one).tolist()
    [0.0, 0.375, 0.5, 0.125]
  """
  latent = np.diff(disease.latent_cdf, prepend=0)
  stays = 1 - np.append(0, np.asarray(disease.infectious_cdf, float)[:-1])
  # How infectious, by half-days since P began.
  relative, asymptomatic = (
    disease.rel_trans_asymptomatic,
    disease.p_asymptomatic,
  )
  ill = 1 - asymptomatic + asymptomatic * relative
  sure = np.ones(2 * (disease.infectious_first - 1))
  course = np.concatenate(
    [
      np.full(2 * disease.presymptomatic_days, float(relative)),
      ill * np.append(sure, np.repeat(stays, 2)),
    ]
  )
  begins = np.zeros(2 * (disease.latent_first + len(latent)) - 1)
  begins[2 * disease.latent_first :: 2] = latent
  by_half = np.convolve(begins, course)
  days = np.zeros(len(by_half) // 2 + 1)
  half = np.arange(len(by_half))
  for infected in (0, 1):  # by day, by night
    np.add.at(days, (half + infected) // 2, by_half / 2)
  return np.trim_zeros(days / days.sum(), "b")


def reproduction(
  incidence: Int[np.ndarray, "*batch days"], weights: Float[np.ndarray, " lags"]
) -> Float[np.ndarray, "*batch days"]:
  r"""Estimates the reproduction number of each day by Cori's method.

  With $\Lambda_s = \sum_k I_{s-k} w_k$ and R constant over the `WINDOW` days
  to $t$, the posterior mean under a gamma prior of shape $a = 1$ and scale
  $b = 5$ is $(a + \sum_s I_s) / (1/b + \sum_s \Lambda_s)$. Infections are known
  here, so $w$ is the generation interval, for which Cori et al. take serial
  intervals.

  Args:
    incidence: new infections of each day.
    weights: of `generation_interval`.

  Returns:
    R; NaN in the first days, and where a window has so few infections that the
    posterior's coefficient of variation is above .3.

  References:
    Cori, Ferguson, Fraser, Cauchemez, A new framework and software to estimate
    time-varying reproduction numbers during epidemics, American Journal of
    Epidemiology 178, 2013.
  """
  cases = incidence.astype(float)
  pressure = np.zeros_like(cases)
  for lag in range(1, min(len(weights), cases.shape[-1])):
    pressure[..., lag:] += weights[lag] * cases[..., :-lag]
  found = np.full(cases.shape, np.nan)
  window = lambda x: np.lib.stride_tricks.sliding_window_view(
    x, WINDOW, axis=-1
  ).sum(-1)
  if cases.shape[-1] > WINDOW:
    shape = _SHAPE + window(cases)[..., 1:]
    rate = 1 / _SCALE + window(pressure)[..., 1:]
    found[..., WINDOW:] = np.where(shape >= _ENOUGH, shape / rate, np.nan)
  return found


def write(
  folder: pathlib.Path,
  daily: outputs.Table,
  ages: outputs.Table,
  disease: disease_lib.Disease,
) -> dict[str, Any]:
  """Writes a report beside the tables of a run.

  `attack.parquet` and `.csv`: attack rates by county and age; `rt.parquet` and
  `.csv`: R by day and county; both as quantiles over replicates, and `none`
  counties or ages stand for all. `report.json`: the region's attack rate, peak
  and largest R.

  Args:
    folder: where to.
    daily: table of all finished replicates.
    ages: likewise.
    disease: natural history, for the generation interval.

  Returns:
    What `report.json` holds; files' notes for the manifest under `files`.
  """
  replicates, fips, groups = (
    np.unique(ages[name]) for name in ("replicate", "fips", "age")
  )
  shape = (len(replicates), -1, len(fips))
  news = daily["new_infections"].reshape(shape)
  residents, infected = (
    ages[name].reshape(len(replicates), len(fips), len(groups))
    for name in ("residents", "infected")
  )
  # Index cases stand on the day before the first.
  seeds = infected.sum(2) - news.sum(1)
  incidence = np.concatenate((seeds[:, None], news), 1)
  incidence = np.append(incidence, incidence.sum(2, keepdims=True), 2)
  weights = generation_interval(disease)
  rt = reproduction(np.moveaxis(incidence, 1, 2), weights)[:, :, 1:]
  date = daily["date"][: news.shape[1] * len(fips) : len(fips)]
  places = [*fips.tolist(), None]
  notes = {
    name: outputs.write_both(folder, name, table)
    for name, table in (
      ("attack", _attack(residents, infected, places, ages["age"])),
      ("rt", _rt(rt, places, date)),
    )
  }
  whole = incidence[:, 1:, -1]
  share = infected.sum((1, 2)) / residents.sum((1, 2))
  summary = {
    "replicates": len(replicates),
    "days": news.shape[1],
    "attack_rate": _spread(share),
    "peak_day": _spread(whole.argmax(1)),
    "peak_new_infections": _spread(whole.max(1)),
    "largest_r": _spread(np.max(rt[:, -1], 1, initial=0, where=rt[:, -1] > 0)),
    "mean_generation_interval_days": float(weights @ np.arange(len(weights))),
  }
  files.write_json(folder / "report.json", summary)
  return summary | {"files": notes}


def write_tree(
  folder: pathlib.Path, log: events.Table, days: int
) -> dict[str, Any]:
  """Writes the event log, and what the transmission tree says.

  `events`, `tree`: a row for each transition and each infection; `cohorts`:
  case reproduction number by day of infection (day -1 are index cases);
  `routes`: share of each context in infections. All as Parquet and CSV, the
  last two as quantiles over replicates.

  Args:
    folder: where to.
    log: events of all finished replicates.
    days: of the run.

  Returns:
    For `report.json`: mean generation interval of each replicate's tree and
    contexts' shares; files' notes for the manifest under `files`.
  """
  replicates = np.unique(log["replicate"])
  trees = [
    tree.grow(
      {name: column[log["replicate"] == one] for name, column in log.items()}
    )
    for one in replicates
  ]
  cohorts = np.stack([tree.cohorts(one, days) for one in trees])
  shares = np.stack([tree.shares(one, CONTEXTS) for one in trees])
  joined = {
    name: np.ma.concatenate([one[name] for one in trees])
    if name == "infector"
    else np.concatenate([one[name] for one in trees])
    for name in tree.COLUMNS
  }
  day = np.arange(-1, days, dtype=np.int32)
  names = np.array(CONTEXTS, object)
  notes = {
    name: outputs.write_both(folder, name, table, meanings)
    for name, table, meanings in (
      ("events", eventlog.shown(log), events.COLUMNS),
      ("tree", joined, tree.COLUMNS),
      ("cohorts", {"day": day, **_quantiles(cohorts)}, outputs.COLUMNS),
      ("routes", {"context": names, **_quantiles(shares)}, outputs.COLUMNS),
    )
  }
  intervals = [one["generation_interval"] for one in trees]
  means = [np.nanmean(part) for part in intervals if np.isfinite(part).any()]
  return {
    "context_shares": {
      name: _spread(shares[:, index]) for index, name in enumerate(CONTEXTS)
    },
    **(
      {"tree_generation_interval_days": _spread(np.array(means))}
      if means
      else {}
    ),
    "files": notes,
  }


def _attack(residents, infected, places, age) -> outputs.Table:
  """Rows by county, then age; after each sort comes its total."""
  total = lambda x: np.append(x, x.sum(1, keepdims=True), 1)
  both = lambda x: np.moveaxis(total(np.moveaxis(total(x), 1, 2)), 1, 2)
  residents, infected = both(residents), both(infected)
  rate = np.divide(
    infected, residents, out=np.full(residents.shape, np.nan),
    where=residents > 0,
  )  # fmt: skip
  names = [*age[: residents.shape[2] - 1].tolist(), None]
  return {
    "fips": np.repeat(np.array(places, object), len(names)),
    "age": np.array(names * len(places), object),
    "residents": residents[0].ravel(),
    **_quantiles(rate.reshape(len(rate), -1)),
  }


def _rt(rt, places, date) -> outputs.Table:
  days = rt.shape[2]
  rows = np.moveaxis(rt, 2, 1).reshape(len(rt), -1)
  day = np.repeat(np.arange(days, dtype=np.int32), len(places))
  return {
    "day": day,
    "date": date[day],
    "fips": np.array(places * days, object),
    **_quantiles(rows),
  }


def _quantiles(rows: np.ndarray) -> outputs.Table:
  """Mean and quantiles over replicates; those without a value do not count."""
  counts = (~np.isnan(rows)).sum(0)
  levels = np.full((1 + len(outputs.QUANTILES), rows.shape[1]), np.nan)
  whole = counts == len(rows)
  for which, mean, quantile in (
    (whole, np.mean, np.quantile),
    ((counts > 0) & ~whole, np.nanmean, np.nanquantile),  # slow
  ):
    if which.any():
      some = rows[:, which]
      levels[0, which] = mean(some, axis=0)
      levels[1:, which] = quantile(some, outputs.QUANTILES, axis=0)
  names = [
    "mean",
    *(f"q{100 * quantile:02.0f}" for quantile in outputs.QUANTILES),
  ]
  return {
    "replicates": counts.astype(np.int32),
    **dict(zip(names, levels, strict=True)),
  }


def _spread(values: np.ndarray) -> dict[str, float]:
  return {
    "mean": float(np.mean(values)),
    **{
      f"q{100 * quantile:02.0f}": float(np.quantile(values, quantile))
      for quantile in outputs.QUANTILES
    },
  }
