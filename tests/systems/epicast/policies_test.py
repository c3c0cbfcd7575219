"""Policies by date and county become rows of scales."""

import dataclasses
import datetime

import numpy as np
import pytest

from research.runs import errors
from research.systems.epicast import disease, policies

FIPS = np.array([6001, 6013])
START = datetime.date(2020, 3, 1)


def _compile(**changes):
  rule = policies.Change(day=0, context="work", scale=0.5)
  rule = dataclasses.replace(rule, **changes)
  return policies.compile_changes([rule], FIPS, START)


def test_changes_hold_until_the_next_one():
  rules = policies.compile_changes(
    [
      policies.Change(day=20, context="schools", scale=1.0, fips=(6001,)),
      policies.Change(
        day=datetime.date(2020, 3, 6), context="schools", scale=0
      ),
      policies.Change(day=5, context="work", scale=0.5, fips=(6013,)),
    ],
    FIPS,
    START,
  )
  np.testing.assert_array_equal(rules.since, [0, 5, 20] + [2**31 - 1] * 5)
  of = disease.CONTEXTS.index
  np.testing.assert_array_equal(
    rules.scale[:3, :, of("class")], [[1, 1], [0, 0], [1, 0]]
  )
  np.testing.assert_array_equal(
    rules.scale[:3, :, of("work")], [[1, 1], [1, 0.5], [1, 0.5]]
  )
  assert (rules.scale[:, :, of("household")] == 1).all()


def test_orders_hold_until_the_next_one():
  rules = policies.compile_changes(
    [
      policies.Shelter(day=20, compliance=0, fips=(6001,)),
      policies.Shelter(day=5, compliance=0.75),
      policies.Change(day=9, context="work", scale=0.5),
    ],
    FIPS,
  )
  np.testing.assert_array_equal(rules.since[:4], [0, 5, 9, 20])
  orders = np.asarray(rules.orders)
  np.testing.assert_array_equal(
    orders[:4], [[0, 0], [192, 192], [192, 192], [0, 192]]
  )
  assert _compile().orders is None


@pytest.mark.parametrize(
  ("changes", "message"),
  [
    ({"context": "wrok"}, "did you mean 'work'"),
    ({"fips": (6002,)}, "got county 6002.*such as 6001"),
    ({"scale": -1.0}, "got a scale of -1.0"),
    ({"day": datetime.date(2020, 2, 1)}, "got day -29"),
  ],
)
def test_wrong_policies_are_told_in_one_line(changes, message):
  with pytest.raises(errors.UserError, match=message):
    _compile(**changes)


def test_wrong_orders_are_told_in_one_line():
  with pytest.raises(errors.UserError, match="compliance: got 1.5"):
    policies.Shelter(day=0, compliance=1.5)
