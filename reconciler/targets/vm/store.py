"""Previous contents by digest, in the daemon's own folder: for people, and for going back to a snapshot."""

from __future__ import annotations

import os
import re
import tempfile
from pathlib import Path

from reconciler import errors, model

_DIGEST = re.compile(r"[0-9a-f]{64}")


class Store:
    """One file a content, 0600, in a private folder; nothing is ever changed."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def keep(self, content: bytes) -> None:
        """Durable when it returns."""
        path = self._path(model.sha256(content))
        if path.exists():
            return
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        descriptor, name = tempfile.mkstemp(dir=self._folder, prefix=".new-")  # 0600 by definition.
        try:
            with os.fdopen(descriptor, "wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            Path(name).replace(path)
        except OSError:
            Path(name).unlink(missing_ok=True)
            raise

    def get(self, digest: str) -> bytes | None:
        """Raises: PermanentError(store) for a content that is not what its name says."""
        try:
            content = self._path(digest).read_bytes()
        except FileNotFoundError:
            return None
        if model.sha256(content) != digest:
            raise errors.PermanentError("store", f"the kept content {digest[:12]} is damaged", where=str(self._folder))
        return content

    def has(self, digest: str) -> bool:
        return self._path(digest).exists()

    def _path(self, digest: str) -> Path:
        if not _DIGEST.fullmatch(digest):
            raise errors.PermanentError("store", "no digest")
        return self._folder / digest
