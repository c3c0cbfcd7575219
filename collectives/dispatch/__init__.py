"""Which algorithm `algorithm="auto"` takes, by what was timed before.

`choices` decides while a program is traced, from facts that all processes
share. What learns choices from timings is imported by who tunes: `cells`,
`table`, `svm`, `tuning`, `simulated`, `evaluation`.
"""

from collectives.dispatch.choices import Choice, Choices, Part, load
from collectives.dispatch.environment import resolve

__all__ = ["Choice", "Choices", "Part", "load", "resolve"]
