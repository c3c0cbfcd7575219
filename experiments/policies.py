"""Names of attention policies, resolved to objects."""

import dataclasses
import difflib
import inspect
from collections.abc import Callable, Iterable
from typing import Any

from research.runs import errors
from research.systems.sift_attention import selection
from research.systems.sift_attention.policies import (
  base,
  certified,
  control,
  law,
  rules,
)

#: What each name makes: a policy, or a policy and the rows it always keeps.
POLICIES: dict[str, Callable[..., Any]] = {
  "dense": rules.Dense,
  "power_law": law.PowerLaw,
  "fixed_beta": law.fixed_beta,
  "relative_to_max": rules.RelativeToMax,
  "top_mass": rules.TopMass,
  "quantile": rules.Quantile,
  "top_k": rules.TopK,
  "streaming_llm": selection.streaming_llm,
}


@dataclasses.dataclass(frozen=True)
class Choice:
  """A policy and the rows that are kept whatever it says."""

  policy: base.Policy
  always: selection.Always


def parse(text: str) -> Choice:
  """Resolves a policy's name and options.

  `name` or `name:option=number,...`. Beside its own options (the arguments of
  what `POLICIES` holds) every policy takes

  * `sinks`, `newest`, `share`: rows kept by position, see `selection.Always`;
  * `target`, `gain`: hold each head to a share of the row by feedback, see
    `control.Controlled`;
  * `least_mass`: rows that would keep less become dense, see
    `certified.Certified`.

  Args:
    text: for example `relative_to_max:scale=4` or
      `power_law:level=0.75,warmup=64`.

  Returns:
    The policy and the rows always kept.

  Raises:
    UserError: an unknown name or option, or a value that does not fit.

  Example:
    >>> parse("relative_to_max:scale=2,sinks=4").always
    Always(sinks=4, newest=1, share=0.0)
    >>> parse("quantile:level=0.75,target=0.2").policy.target
    0.2
    >>> parse("power_low")
    Traceback (most recent call last):
    ...
    research.runs.errors.UserError: unknown policy: got 'power_low', expected \
one of dense, power_law, fixed_beta, relative_to_max, top_mass, quantile, \
top_k, streaming_llm; did you mean power_law?
  """
  name, _, rest = text.strip().partition(":")
  if name not in POLICIES:
    raise _unknown("policy", name, POLICIES)
  own, control_options = _options(POLICIES[name]), _options(control.Controlled)
  options = own | _options(selection.Always) | control_options
  options |= _options(certified.Certified)
  given: dict[str, Any] = {}
  for item in filter(None, rest.split(",")):
    key, value = _read(item, name, options)
    if key in given:
      raise errors.UserError(f"policy {text!r}: option {key} is given twice")
    given[key] = value
  take = lambda names: {k: given.pop(k) for k in list(given) if k in names}
  try:
    made = _make(POLICIES[name], take(own))
    always = selection.Always()
    policy, always = made if isinstance(made, tuple) else (made, always)
    always = dataclasses.replace(always, **take(_options(selection.Always)))
    if held := take(control_options):
      policy = _make(control.Controlled, {"inner": policy} | held)
    if given:
      policy = certified.Certified(policy, **given)
  except ValueError as error:
    raise errors.UserError(f"policy {text!r}: {error}") from error
  return Choice(policy, always)


def _options(make: Callable[..., Any]) -> dict[str, type]:
  """The arguments that are numbers, and what kind."""
  parameters = inspect.signature(make).parameters.values()
  return {p.name: p.annotation for p in parameters if p.name != "inner"}


def _make(make: Callable[..., Any], given: dict[str, Any]) -> Any:
  parameters = inspect.signature(make).parameters.values()
  for p in parameters:
    if p.default is p.empty and p.name not in given:
      raise ValueError(f"{p.name} is missing, expected {p.name}=NUMBER")
  return make(**given)


def _read(item: str, name: str, options: dict[str, type]) -> tuple[str, Any]:
  """Reads `option=number`."""
  key, _, value = (part.strip() for part in item.partition("="))
  if key not in options:
    raise _unknown(f"option of the policy {name}", key, options)
  try:
    return key, options[key](value)
  except ValueError as error:
    kind = "a whole number" if options[key] is int else "a number"
    raise errors.UserError(
      f"option {key} of the policy {name}: got {value!r}, expected {kind}"
    ) from error


def _unknown(what: str, got: str, known: Iterable[str]) -> errors.UserError:
  near = difflib.get_close_matches(got, list(known), n=1)
  hint = f"; did you mean {near[0]}?" if near else ""
  return errors.UserError(
    f"unknown {what}: got {got!r}, expected one of {', '.join(known)}{hint}"
  )
