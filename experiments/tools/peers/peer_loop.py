"""How a rival answers: a JSON line for a JSON line."""

import json
import sys
import time
from typing import Any


def serve(worker: Any) -> None:
  """Answers requests until standard input ends.

  Args:
    worker: its method of the name `op` takes the rest of a request and returns
      a dictionary, whose `seconds`, if there are any, replace the ones
      measured here.
  """
  for line in sys.stdin:
    request, start = json.loads(line), time.perf_counter()
    answer = getattr(worker, request.pop("op"))(**request)
    answer = {"seconds": time.perf_counter() - start} | answer
    print(json.dumps(answer), flush=True)
