"""A support vector machine that chooses, as PCCL has one.

Needs scikit-learn, here alone: what it learned is exported as plain data.

References:
  PCCL, arXiv 2504.18658.
"""

from collections.abc import Sequence

import numpy as np

from collectives import schedule as sched
from collectives.dispatch import cells as cells_lib
from collectives.dispatch import learners


def learn(
  collective: sched.Collective, cells: Sequence[cells_lib.Cell]
) -> learners.Chooser:
  """Fits the label of each cell, its fastest algorithm.

  Args:
    collective: what was timed.
    cells: the timings.
  """
  from sklearn import pipeline, preprocessing, svm

  del collective
  labels = [cell.best for cell in cells]
  if len(set(labels)) == 1:  # there is nothing to separate
    return lambda *_: labels[0]
  machine = pipeline.make_pipeline(
    preprocessing.StandardScaler(),
    svm.SVC(C=100.0, decision_function_shape="ovr"),
  )
  points = learners.features([(cell.grid, cell.nbytes) for cell in cells])
  machine.fit(points, labels)
  classes = list(machine.classes_)

  def choose(grid, nbytes):
    scores = machine.decision_function(learners.features([(grid, nbytes)]))
    if len(classes) == 2:  # one score, of the second
      scores = np.stack([-scores, scores], axis=1)
    able = learners.able(cells, grid)
    return max(
      (c for c in classes if c in able),
      key=lambda name: scores[0, classes.index(name)],
      default=able[0],
    )

  return choose
