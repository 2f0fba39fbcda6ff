"""Drivers and gates by name, found through entry points and loaded when they are named."""

from __future__ import annotations

import importlib.metadata
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Generic, TypeVar

from reconciler import errors

T = TypeVar("T")
OURS = "reconciler"


class Loaded(Mapping[str, T], Generic[T]):
    """Name -> what `bind` makes of the entry point's object. Nothing is imported before its name is asked for.

    An entry point is arbitrary code: one of another distribution counts only where the configuration allows it by name.
    """

    def __init__(self, group: str, allowed: frozenset[str], bind: Callable[[str, Any], T]) -> None:
        found = importlib.metadata.entry_points(group=group)
        self._points = {p.name: p for p in found if p.dist and p.dist.name in allowed | {OURS}}
        self._bind = bind
        self._made: dict[str, T] = {}

    def __getitem__(self, name: str) -> T:
        if name not in self._made:
            self._made[name] = self._bind(name, self._load(name))
        return self._made[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._points)

    def __len__(self) -> int:
        return len(self._points)

    def _load(self, name: str) -> Any:
        try:
            return self._points[name].load()
        except ImportError as exc:
            fix = f'pip install "reconciler[{name}]"'
            raise errors.ConfigError("plugin", f"{name}: {exc.name or 'a module'} is not installed", fix=fix) from exc
