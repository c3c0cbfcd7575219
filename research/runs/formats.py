"""How numbers, times and verdicts read, on the terminal and in the report."""

from research.runs import claims

DASH = "–"
VERDICTS = {True: "holds", False: "fails", None: "not judged"}

_SUPERSCRIPTS = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")
_PREFIXES = ((1.0, ""), (1e-3, "m"), (1e-6, "µ"))


def value(quantity: claims.Value) -> str:
  """Writes a claim's value: four digits, or the text as it is.

  Example:
    >>> value(0.92847), value(12345678), value(3.0e-7), value(None)
    ('0.9285', '12,345,678', '3 × 10⁻⁷', '–')
  """
  if quantity is None:
    return DASH
  if isinstance(quantity, str):
    return quantity
  if isinstance(quantity, int) or 1e4 <= abs(quantity) < 1e9:
    text = f"{quantity:,.0f}"
  else:
    text = _power_of_ten(f"{quantity:.4g}")
  return text.replace("-", "−")


def _power_of_ten(text: str) -> str:
  mantissa, _, exponent = text.partition("e")
  if not exponent:
    return text
  return f"{mantissa} × 10{str(int(exponent)).translate(_SUPERSCRIPTS)}"


def with_unit(quantity: claims.Value, unit: str) -> str:
  """Writes a value and its unit, as in `12.5 ms` or `31%`."""
  if quantity is None or not unit:
    return value(quantity)
  return value(quantity) + (unit if unit == "%" else f" {unit}")


def timing(quantity: float | None, unit: str) -> str:
  """Writes a bench value, seconds with a prefix.

  Example:
    >>> timing(0.0123, "s/token")
    '12.3 ms/token'
  """
  if quantity is None:
    return DASH
  scale, prefix = _prefix(quantity, unit)
  return f"{quantity / scale:.3g} {prefix}{unit}"


def spread(low: float | None, high: float | None, unit: str) -> str:
  """Writes a range of bench values under one unit.

  Example:
    >>> spread(0.0123, 0.0131, "s")
    '12.3 to 13.1 ms'
  """
  if low is None or high is None:
    return DASH
  scale, prefix = _prefix(high, unit)
  return f"{low / scale:.3g} to {high / scale:.3g} {prefix}{unit}"


def _prefix(quantity: float, unit: str) -> tuple[float, str]:
  if unit != "s" and not unit.startswith("s/"):
    return 1.0, ""
  return next((pair for pair in _PREFIXES if quantity >= pair[0]), (1e-9, "n"))


def duration(seconds: float | None) -> str:
  """Writes how long something took.

  Example:
    >>> duration(4.2), duration(42.0), duration(75.0), duration(7320.0)
    ('4.2 s', '42 s', '1 min 15 s', '2 h 02 min')
  """
  if seconds is None:
    return DASH
  if seconds < 59.5:
    return f"{seconds:.{int(seconds < 9.95)}f} s"
  minutes, rest = divmod(round(seconds), 60)
  if minutes < 60:
    return f"{minutes} min {rest:02d} s"
  return f"{minutes // 60} h {minutes % 60:02d} min"


def verdict(holds: bool | None) -> str:
  """Writes `holds`, `fails` or `not judged`."""
  return VERDICTS[holds]
