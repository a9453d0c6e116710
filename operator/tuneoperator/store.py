"""Copies of cluster objects kept up to date: paged list, watch with bookmarks, list again after 410."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from typing import Any, Generic, TypeVar
from urllib.parse import urlencode

import msgspec

from tuneoperator.kube import Api, ApiFailed

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


class Store(Generic[T]):
    """Objects of one kind by name. Until the first whole list, and while the API server is away, not `synced`.

    What is not synced says nothing about what exists: nobody may act on an absence in it.
    """

    def __init__(
        self, api: Api, path: str, kind: type[T], changed: Callable[[], None], query: dict[str, str] | None = None
    ) -> None:
        self._api = api
        self._path = path
        self._decoder: msgspec.json.Decoder[Any] = msgspec.json.Decoder(kind)
        self._changed = changed
        self._query = query or {}
        self._lock = threading.Lock()
        self._objects: dict[str, T] = {}
        self.synced = False

    def all(self) -> list[T]:
        """Every object, by name."""
        with self._lock:
            return [self._objects[name] for name in sorted(self._objects)]

    def get(self, name: str) -> T | None:
        """One object."""
        with self._lock:
            return self._objects.get(name)

    def put(self, raw: bytes) -> T:
        """Take in an object as the server answered a write, unless a newer one came meanwhile."""
        found: T = self._decoder.decode(raw)
        self._keep(found)
        return found

    def _keep(self, found: T) -> None:
        meta = found.metadata  # type: ignore[attr-defined]  # every record has one
        with self._lock:
            before = self._objects.get(meta.name)
            old = before.metadata.resource_version if before is not None else ""  # type: ignore[attr-defined]
            if old.isdigit() and meta.resource_version.isdigit() and int(old) > int(meta.resource_version):
                return
            self._objects[meta.name] = found

    def run(self, stop: threading.Event) -> None:
        """Keep the copy until `stop`. Runs in a thread of its own."""
        while not stop.is_set():
            try:
                version = self._list()
                while not stop.is_set():
                    version = self._watch(version)
            except (ApiFailed, msgspec.MsgspecError) as error:
                self.synced = False
                log.warning("list or watch ended", extra={"fields": {"path": self._path, "error": str(error)}})
                stop.wait(1.0)

    def _list(self) -> str:
        found: dict[str, T] = {}
        following = ""
        while True:
            query = urlencode({**self._query, "limit": str(PAGE), "continue": following})
            page = msgspec.json.decode(self._api.call("GET", f"{self._path}?{query}"), type=_Page)
            for raw in page.items:
                one = self._decoder.decode(raw)
                found[one.metadata.name] = one
            following = page.metadata.continue_
            if not following:
                break
        with self._lock:
            self._objects = found
        self.synced = True
        self._changed()
        return page.metadata.resource_version

    def _watch(self, version: str) -> str:
        for line in self._api.watch(self._path, {**self._query, "resourceVersion": version}, WATCH_S):
            event = msgspec.json.decode(line, type=_Event)
            if event.type == "ERROR":
                status = msgspec.json.decode(event.object, type=_Version)
                raise ApiFailed(status.code, status.message)
            if event.type == "BOOKMARK":
                version = msgspec.json.decode(event.object, type=_Version).metadata.resource_version
                continue
            one = self._decoder.decode(event.object)
            version = one.metadata.resource_version
            if event.type == "DELETED":
                with self._lock:
                    self._objects.pop(one.metadata.name, None)
            else:
                self._keep(one)
            self._changed()
        return version
