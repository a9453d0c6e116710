"""Starts the operator's or the agent's threads many times, each in a fork of a process that has used no decoder yet.

argv: operator|agent COUNT. Prints how the forks ended. A crash of the interpreter ends a fork with a signal.
"""

from __future__ import annotations

import collections
import json
import os
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

from prometheus_client import CollectorRegistry

NODE = {"metadata": {"name": "n1", "resourceVersion": "5", "labels": {"a": "b"}}, "status": {"conditions": []}}
OBJECTS = {
    "/api/v1/nodes": NODE,
    "nodetunings": {
        "metadata": {"name": "n1", "resourceVersion": "5", "generation": 1},
        "spec": {"profile": "p", "grant": {"digest": "d", "disruption": "gpu", "lifetimeSeconds": 1}},
        "status": {"node": {"taken": {"digest": "d"}, "proposal": {"digest": "d"}}, "rollout": {"phase": "Done"}},
    },
    "tuningprofiles": {"metadata": {"name": "p", "resourceVersion": "5"}, "spec": {"tune": {"sysctl": {}}}},
    "tuningpolicies": {"metadata": {"name": "default", "resourceVersion": "5"}, "spec": {}},
    "pods": {"metadata": {"name": "agent", "resourceVersion": "5"}, "spec": {"nodeName": "n1"}},
    "configmaps": {"metadata": {"name": "tuneagent-ledger", "resourceVersion": "5"}, "data": {"places": "{}"}},
}


def _object_of(path: str) -> dict[str, Any]:
    return next(found for name, found in OBJECTS.items() if name in path)


class FakeApi:
    """Answers every list at once, and shows one change in every watch: all threads decode at the same moment."""

    def __init__(self, parties: int) -> None:
        self.together = threading.Barrier(parties)

    def call(self, method: str, path: str, *_: Any) -> bytes:
        assert method == "GET", path
        self.together.wait(20)
        return json.dumps({"metadata": {"resourceVersion": "5"}, "items": [_object_of(path)]}).encode()

    def watch(self, path: str, *_: Any) -> Iterator[bytes]:
        self.together.wait(20)
        yield json.dumps({"type": "MODIFIED", "object": _object_of(path)}).encode()
        yield json.dumps({"type": "BOOKMARK", "object": {"metadata": {"resourceVersion": "6"}}}).encode()
        self.together.wait(20)
        os._exit(0)


def start_operator() -> None:
    from tuneoperator.__main__ import Operator
    from tuneoperator.controllers.reconcile import TimeLimits

    api: Any = FakeApi(6)
    operator = Operator(api, CollectorRegistry(), limits=TimeLimits())
    operator.elector.run = lambda stop: stop.wait()  # type: ignore[method-assign]
    operator.run()


def start_agent() -> None:
    from pathlib import Path

    from tuneagent.engine.host_tuner import HostTuner
    from tuneagent.host.machine import tree_host
    from tuneagent.host.state_folder import StateFolder
    from tuneagent.node import cluster_agent as node_agent
    from tuneagent.node.api_client import Watched, WatchedMeta, WatchEvent
    from tuneagent.node.metrics import Metrics
    from tuneagent.profile_files.resolve import builtin
    from tuneagent.tunables.registry import registry, resolved

    wanted = {
        "metadata": {"name": "n1", "generation": 1, "resourceVersion": "5"},
        "spec": {"grant": {"digest": "d", "disruption": "gpu", "lifetimeSeconds": 1, "bootID": "b", "epoch": 1}},
        "status": {"node": {"taken": {"digest": "d", "bootID": "b", "epoch": 1}}},
    }

    class Api:
        def __init__(self, *_: Any) -> None:
            self.writes = 0

        def get(self, path: str) -> Any:
            return wanted if "nodetunings" in path else {"spec": {}}

        def patch(self, *_: Any) -> Any:
            os._exit(0)

        def watch(self, *_: Any) -> Iterator[WatchEvent]:
            for number in range(5):
                yield WatchEvent("MODIFIED", Watched(WatchedMeta(str(number))))
            time.sleep(60)

    node_agent.KubeApi = Api  # type: ignore[misc,assignment]
    node_agent.credentials = lambda: None  # type: ignore[assignment,return-value]
    folder = tempfile.mkdtemp(dir=sys.argv[3])
    Path(folder, "proc/sys/kernel/random").mkdir(parents=True)
    Path(folder, "proc/sys/kernel/random/boot_id").write_text("b\n")
    host = tree_host(folder)
    found = builtin("generic")
    assert found is not None
    session = HostTuner(host, StateFolder(host.files, "var/lib/tuneagent"), resolved(found, registry()))
    session.state.make()
    node_agent.NodeAgent(session, "n1", Metrics(), threading.Event(), 60).serve()


def main() -> None:
    """Fork COUNT times, one after the other."""
    import tuneagent.node.cluster_agent
    import tuneoperator.__main__
    from tuneagent.tunables.registry import registry

    del tuneagent, tuneoperator
    dict(registry())
    start: Callable[[], None] = start_operator if sys.argv[1] == "operator" else start_agent
    ends: collections.Counter[int] = collections.Counter()
    for _ in range(int(sys.argv[2])):
        child = os.fork()
        if child == 0:
            threading.Timer(30, lambda: os._exit(3)).start()
            try:
                start()
            finally:
                os._exit(4)
        ends[os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])] += 1
    print(json.dumps(ends))


if __name__ == "__main__":
    main()
