"""The real operator with a death built in: it kills itself before or after its N-th write, Leases not counted.

TUNEAGENT_DIES_AT=N, TUNEAGENT_DIES=before|after.
"""

from __future__ import annotations

import itertools
import os
import signal
from typing import Any

from tuneoperator.__main__ import main
from tuneoperator.kube.client import Api

AT = int(os.environ["TUNEAGENT_DIES_AT"])
BEFORE = os.environ["TUNEAGENT_DIES"] == "before"
real_call = Api.call
counted = itertools.count(1)


def call(self: Api, method: str, path: str, *rest: Any) -> bytes:
    dies = method != "GET" and "/leases" not in path and next(counted) == AT
    if dies and BEFORE:
        os.kill(os.getpid(), signal.SIGKILL)
    answer = real_call(self, method, path, *rest)
    if dies:
        os.kill(os.getpid(), signal.SIGKILL)
    return answer


Api.call = call  # type: ignore[method-assign]
main()
