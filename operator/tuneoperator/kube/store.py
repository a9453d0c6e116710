"""Copies of cluster objects kept up to date: paged list, watch with bookmarks, list again after 410."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from typing import Any, Generic, TypeVar
from urllib.parse import urlencode

import msgspec

from tuneoperator.kube.client import Api, ApiFailed

log = logging.getLogger("tuneoperator")
T = TypeVar("T")
PAGE = 500
WATCH_S = 300


class _ListMeta(msgspec.Struct, frozen=True, rename="camel"):
    resource_version: str = ""
    continue_: str = msgspec.field(default="", name="continue")


class _Page(msgspec.Struct, frozen=True):
    metadata: _ListMeta
    items: list[msgspec.Raw]


class _Event(msgspec.Struct, frozen=True):
    type: str
    object: msgspec.Raw


class _Version(msgspec.Struct, frozen=True):
    metadata: _ListMeta = _ListMeta()
    code: int = 0
    message: str = ""


class _Name(msgspec.Struct, frozen=True, rename="camel"):
    name: str
    resource_version: str = ""


class _Named(msgspec.Struct, frozen=True):
    metadata: _Name


class Store(Generic[T]):
    """Objects of one kind by name. Not `synced` until the first complete list, and while the API server is unreachable.

    While it is not synced, an object that is missing here may exist: nobody may act on its absence. `is_served` is
    false if the API server says that it has no such kind.
    """

    def __init__(
        self, api: Api, path: str, kind: type[T], changed: Callable[[], None], query: dict[str, str] | None = None
    ) -> None:
        self._api = api
        self.path = path
        # Every decoder is created here, in the one thread that creates the stores: two threads that first use a msgspec
        # type at the same time crash the interpreter (0.22.0; 1 start in 84).
        self._decoder: msgspec.json.Decoder[Any] = msgspec.json.Decoder(kind)
        self._pages = msgspec.json.Decoder(_Page)
        self._events = msgspec.json.Decoder(_Event)
        self._versions = msgspec.json.Decoder(_Version)
        self._names = msgspec.json.Decoder(_Named)
        self._changed = changed
        self._query = query or {}
        self._lock = threading.Lock()
        self._objects: dict[str, T] = {}
        self._faults: dict[str, str] = {}
        # Versions at which objects were deleted: an answer to an earlier write of ours must not bring them back.
        self._gone: dict[str, int] = {}
        self.synced = False
        self.is_served = True

    def all(self) -> list[T]:
        """Every object, by name."""
        with self._lock:
            return [self._objects[name] for name in sorted(self._objects)]

    def get(self, name: str) -> T | None:
        """One object."""
        with self._lock:
            return self._objects.get(name)

    def faults(self) -> dict[str, str]:
        """Objects that exist and cannot be read, by name, with the reason. Their last readable state is kept."""
        with self._lock:
            return dict(self._faults)

    def put(self, raw: bytes) -> T:
        """Store an object as the server returned it after a write, unless a newer one has arrived."""
        found: T = self._decoder.decode(raw)
        self._keep(found)
        return found

    def drop(self, name: str) -> None:
        """Forget an object that the API server says does not exist. If it does, the watch brings it back."""
        with self._lock:
            self._objects.pop(name, None)

    def _keep(self, found: T) -> None:
        meta = found.metadata  # type: ignore[attr-defined]  # every record has one
        with self._lock:
            self._faults.pop(meta.name, None)
            before = self._objects.get(meta.name)
            old = before.metadata.resource_version if before is not None else ""  # type: ignore[attr-defined]
            version = int(meta.resource_version) if meta.resource_version.isdigit() else None
            if version is not None and version <= self._gone.get(meta.name, -1):
                return
            if old.isdigit() and version is not None and int(old) > version:
                return
            self._objects[meta.name] = found

    def _decoded(self, raw: msgspec.Raw) -> T | None:
        """One object; None for one that cannot be read, which is recorded by name and does not stop the others."""
        try:
            found: T = self._decoder.decode(raw)
        except (msgspec.MsgspecError, RecursionError, ValueError) as error:
            name = self._names.decode(raw).metadata.name
            with self._lock:
                self._faults[name] = str(error)
            log.error("object not read", extra={"fields": {"path": self.path, "name": name, "error": str(error)}})
            return None
        return found

    def run(self, stop: threading.Event) -> None:
        """Keep the copy until `stop`. Runs in a thread of its own."""
        while not stop.is_set():
            try:
                version = self._list()
                while not stop.is_set():
                    version = self._watch(version)
            except (ApiFailed, msgspec.MsgspecError) as error:
                self.synced = False
                self.is_served = not (isinstance(error, ApiFailed) and error.status == 404)
                log.warning("list or watch ended", extra={"fields": {"path": self.path, "error": str(error)}})
                self._changed()
                stop.wait(1.0)

    def _list(self) -> str:
        found: dict[str, T] = {}
        unread: set[str] = set()
        following = ""
        while True:
            query = urlencode({**self._query, "limit": str(PAGE), "continue": following})
            page = self._pages.decode(self._api.call("GET", f"{self.path}?{query}"))
            for raw in page.items:
                one = self._decoded(raw)
                if one is not None:
                    found[one.metadata.name] = one  # type: ignore[attr-defined]
                else:
                    unread.add(self._names.decode(raw).metadata.name)
            following = page.metadata.continue_
            if not following:
                break
        with self._lock:
            kept = {name: self._objects[name] for name in unread if name in self._objects}
            self._objects = {**found, **kept}
            self._faults = {name: fault for name, fault in self._faults.items() if name in unread}
            self._gone = {}
        self.synced = self.is_served = True
        self._changed()
        return page.metadata.resource_version

    def _watch(self, version: str) -> str:
        for line in self._api.watch(self.path, {**self._query, "resourceVersion": version}, WATCH_S):
            event = self._events.decode(line)
            if event.type == "ERROR":
                status = self._versions.decode(event.object)
                raise ApiFailed(status.code, status.message)
            if event.type == "BOOKMARK":
                version = self._versions.decode(event.object).metadata.resource_version
                continue
            meta = self._names.decode(event.object).metadata
            version = meta.resource_version
            if event.type == "DELETED":
                with self._lock:
                    self._objects.pop(meta.name, None)
                    if meta.resource_version.isdigit():
                        self._gone[meta.name] = int(meta.resource_version)
                    self._faults.pop(meta.name, None)
            else:
                one = self._decoded(event.object)
                if one is not None:
                    self._keep(one)
            self._changed()
        return version
