"""Local files that moved make a turn due at once; the interval finds everything else."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Self

QUIET_MS = 40  # Events that come closer together are one wake.
PAUSE_S = 5.0  # Before trying again where a path cannot be watched.

Paths = Mapping[str, tuple[Path, ...]]


class Watch:
    """Calls `wake(name)` for each name one of whose paths holds a file that changed. `paths` may change: say `changed`."""

    def __init__(self, wake: Callable[[str], None], paths: Callable[[], Paths]) -> None:
        self._wake, self._paths = wake, paths
        self._stop, self._restart = threading.Event(), threading.Event()
        self._thread = threading.Thread(target=self._run, name="watch", daemon=True)
        self._watched: Paths = {}

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._restart.set()
        self._thread.join(timeout=5)

    def changed(self) -> None:
        """Look again at what is to be watched."""
        if self._existing() != self._watched:
            self._restart.set()

    def _run(self) -> None:
        import watchfiles

        while not self._stop.is_set():
            self._restart.clear()
            self._watched = watched = self._existing()
            every = sorted({str(p) for paths in watched.values() for p in paths})
            if not every:
                self._restart.wait(PAUSE_S)
                continue
            try:
                for changes in watchfiles.watch(
                    *every, watch_filter=None, stop_event=self._restart, step=QUIET_MS, debounce=QUIET_MS * 4,
                    rust_timeout=1000, yield_on_timeout=True, raise_interrupt=False,
                ):  # fmt: skip
                    self._tell(watched, {Path(path) for _, path in changes})
                    self.changed()
            except FileNotFoundError:  # A path went away in between.
                self._restart.wait(PAUSE_S)

    def _tell(self, watched: Paths, changed: Iterable[Path]) -> None:
        places = {place for path in changed for place in (path, *path.parents)}
        for name, paths in watched.items():
            if places.intersection(paths):
                self._wake(name)

    def _existing(self) -> Paths:
        return {
            name: found for name, paths in self._paths().items() if (found := tuple(p for p in paths if p.exists()))
        }


def source_paths(url: str) -> tuple[Path, ...]:
    """Where a local source keeps its refs; nothing for one that is reached over a network."""
    if "://" in url and not url.startswith("file://"):
        return ()
    root = Path(url.removeprefix("file://"))
    git_dir = root / ".git" if (root / ".git").is_dir() else root
    return (git_dir / "refs",)
