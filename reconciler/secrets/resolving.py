"""Resolves `vault:mount/path#key`, `env:NAME` and `file:/path`. What was resolved is masked on every surface from then on."""

from __future__ import annotations

import functools
import os
import re
import stat
from collections.abc import Mapping
from pathlib import Path

from reconciler import errors, ports, redact
from reconciler.secrets import vault

MAX_BYTES = 64 << 10


class Secrets:
    """`ports.Secrets` of this process. Make one and share it: it holds the token and what was read a moment ago."""

    def __init__(
        self, environment: Mapping[str, str], clock: ports.Clock | None = None, settings: vault.Settings | None = None
    ) -> None:
        """Without `clock` and `settings` there is no vault. Contacts nobody."""
        self._environment = environment
        read = functools.partial(_local, environment=environment)
        self._vault = vault.Vault(settings, read, clock) if settings and clock else None

    def __repr__(self) -> str:
        return f"Secrets({redact.MASK})"

    def resolve(self, reference: str) -> str:
        """The value, without the one line break that editors put at the end of a file.

        Raises: ConfigError(secret) for a reference of another form, a value that is not there, is empty or too short to
        be masked; TransientError(secret) where it is there and could not be read; as `vault.Vault.read`.
        """
        if not reference.startswith("vault:"):
            return _local(reference, self._environment)
        if self._vault is None:
            raise _refusal("no vault is configured", reference, "set secrets.vault in reconciler.yaml")
        return _masked(self._vault.read(reference), reference)

    def close(self) -> None:
        """The connections to a vault that are kept open; it may be used again."""
        if self._vault is not None:
            self._vault.close()


def _local(reference: str, environment: Mapping[str, str]) -> str:
    """What needs no vault, a vault's own credentials among it."""
    scheme, _, rest = reference.partition(":")
    match scheme:
        case "env":
            value = _from_environment(rest, reference, environment)
        case "file":
            value = _from_file(rest, reference)
        case _:
            # The text itself may be the secret that somebody put where a reference belongs.
            raise _refusal("no reference", redact.MASK, "write vault:mount/path#key, env:NAME or file:/path")
    return _masked(value, reference)


def _masked(value: str, reference: str) -> str:
    if len(value) < redact.MIN_SECRET_CHARS:
        raise _refusal(
            f"shorter than {redact.MIN_SECRET_CHARS} characters: it could not be masked",
            reference,
            "use a longer one",
        )
    redact.remember(value)
    return value


def _from_environment(name: str, reference: str, environment: Mapping[str, str]) -> str:
    if not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", name):
        raise _refusal("no name of a variable", reference, "write env:NAME")
    value = environment.get(name)
    if not value:
        raise _refusal("the variable is not set or empty", reference, "set it in the daemon's environment")
    return value


def _from_file(path: str, reference: str) -> str:
    if not path.startswith("/") or "\0" in path or ".." in Path(path).parts:
        raise _refusal("an absolute path is expected", reference, "write file:/path")
    try:
        # Without O_NONBLOCK a pipe in the place of the file would hold this thread for ever.
        number = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except (FileNotFoundError, NotADirectoryError, PermissionError) as exc:
        raise _refusal(f"cannot be read: {exc.strerror}", reference, "check path and permissions") from exc
    except OSError as exc:
        raise errors.TransientError("secret", f"cannot be read: {exc.strerror}", where=reference) from exc
    try:
        if not stat.S_ISREG(os.fstat(number).st_mode):
            raise _refusal("no regular file", reference, "name a file")
        content = os.read(number, MAX_BYTES + 1)
    finally:
        os.close(number)
    if len(content) > MAX_BYTES:
        raise _refusal(f"longer than {MAX_BYTES} bytes", reference, "name the right file")
    try:
        return content.decode().removesuffix("\n")
    except UnicodeDecodeError:
        raise _refusal("not UTF-8", reference, "store it as text") from None  # The exception's text holds the content.


def _refusal(message: str, where: str, fix: str) -> errors.ConfigError:
    return errors.ConfigError("secret", message, where=where, fix=fix)
