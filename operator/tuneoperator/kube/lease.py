"""One leader by a Lease object: taken by compare-and-swap, renewed, given up when it cannot be renewed."""

from __future__ import annotations

import json
import logging
import random
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timezone

import msgspec
from tuneagent.contracts.kubernetes import Lease, LeaseSpec

from tuneoperator.kube.client import Api, ApiFailed

log = logging.getLogger("tuneoperator")
DURATION_S, RENEW_S = 15.0, 4.0


@dataclass(frozen=True)
class Seen:
    """The Lease as last seen: its holder, its version, and when we saw it on our own clock."""

    holder: str = ""
    version: str = ""
    at: float = 0.0


def may_take(seen: Seen, identity: str, now: float) -> bool:
    """Whether the lease is ours or nobody's, or has not changed for its whole duration on our clock.

    Clocks of two machines are never compared.
    """
    return seen.holder in ("", identity) or now - seen.at > DURATION_S


class Elector:
    """Runs in a thread; `is_leader` tells whether writes are allowed."""

    def __init__(self, api: Api, namespace: str, identity: str, clock: Callable[[], float] = time.monotonic) -> None:
        self._api = api
        self._folder = f"/apis/coordination.k8s.io/v1/namespaces/{namespace}/leases"
        self._identity = identity
        self._clock = clock
        self._seen = Seen()
        self._renewed = -1e9

    @property
    def is_leader(self) -> bool:
        """True until the lease could have expired, whatever the API server has said since."""
        return self._clock() - self._renewed < DURATION_S - RENEW_S

    def run(self, stop: threading.Event) -> None:
        """Take and renew until `stop`."""
        while not stop.is_set():
            was = self.is_leader
            try:
                self._once()
            except Exception as error:  # a malformed Lease must not end the elections
                log.warning("lease", extra={"fields": {"error": f"{type(error).__name__}: {error}"}})
            if was != self.is_leader:
                log.info("leader" if self.is_leader else "no longer leader", extra={"fields": {"id": self._identity}})
            stop.wait(RENEW_S * (0.75 + random.random() / 2))  # noqa: S311 - jitter, nothing secret
        self._release()

    def _release(self) -> None:
        """Let another replica lead at once. Call this when nothing more is written."""
        if not self.is_leader:
            return
        self._renewed = -1e9
        path = f"{self._folder}/tuneagent-operator"
        try:
            lease = json.loads(self._api.call("GET", path))
            if _read(lease).holder_identity == self._identity:
                self._api.call("PUT", path, {**lease, "spec": {**_spec(lease), "holderIdentity": ""}})
        except (ApiFailed, msgspec.ValidationError, ValueError) as error:
            log.warning("lease not released", extra={"fields": {"error": str(error)}})

    def _once(self) -> None:
        started = self._clock()
        path = f"{self._folder}/tuneagent-operator"
        try:
            lease = json.loads(self._api.call("GET", path))
        except ApiFailed as error:
            if error.status != 404:
                raise
            self._write("POST", self._folder, self._lease(None), started)
            return
        holder = _read(lease).holder_identity or ""
        version = msgspec.convert(lease, Lease).metadata.resource_version
        if holder not in ("", self._identity):
            # Whatever we thought until now, someone else has it.
            self._renewed = -1e9
        if (holder, version) != (self._seen.holder, self._seen.version):
            self._seen = Seen(holder, version, started)
        if may_take(self._seen, self._identity, started):
            self._write("PUT", path, self._lease(lease), started)

    def _write(self, method: str, path: str, body: dict[str, object], started: float) -> None:
        try:
            answer = json.loads(self._api.call(method, path, body))
        except ApiFailed as error:
            if error.status == 409:
                return
            raise
        self._seen = Seen(self._identity, answer["metadata"]["resourceVersion"], started)
        self._renewed = started

    def _lease(self, present: dict[str, object] | None) -> dict[str, object]:
        now = datetime.now(timezone.utc).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
        spec = {"holderIdentity": self._identity, "leaseDurationSeconds": int(DURATION_S), "renewTime": now}
        if present is None:
            meta: dict[str, object] = {"name": "tuneagent-operator"}
            return {"apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": meta,
                    "spec": {**spec, "acquireTime": now, "leaseTransitions": 0}}  # fmt: skip
        before = _read(present)
        taken = before.holder_identity != self._identity
        transitions = (before.lease_transitions or 0) + taken
        acquired = now if taken else before.acquire_time or now
        return {**present, "spec": {**_spec(present), **spec, "acquireTime": acquired, "leaseTransitions": transitions}}


def _spec(lease: dict[str, object]) -> dict[str, object]:
    """The current spec of a Lease, so that nothing in it is lost; a Lease made by hand may have none."""
    spec = lease.get("spec")
    return spec if isinstance(spec, dict) else {}


def _read(lease: dict[str, object]) -> LeaseSpec:
    return msgspec.convert(lease, Lease).spec or LeaseSpec()
