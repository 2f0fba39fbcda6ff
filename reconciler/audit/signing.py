"""The log's own key: Ed25519 from an OpenSSH private key file. A KMS is another `ports.Signer`."""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import Self

from cryptography import exceptions
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ed25519

from reconciler import errors


class FileSigner:
    """`ports.Signer` over a key that is held in memory. `public` is the raw key of 32 bytes."""

    def __init__(self, key: ed25519.Ed25519PrivateKey) -> None:
        self._key = key
        self.public = key.public_key().public_bytes_raw()

    @classmethod
    def read(cls, path: Path) -> Self:
        """Read an unencrypted OpenSSH Ed25519 private key that only its owner may read.

        Raises: ConfigError(log_key).
        """
        try:
            mode, content = path.stat().st_mode, path.read_bytes()
        except OSError as exc:
            raise _unusable(path, exc.strerror or "it cannot be read") from exc
        if stat.S_IMODE(mode) & 0o077:
            raise errors.ConfigError(
                "log_key", "others may read the log's key", where=str(path), fix=f"chmod 600 {path}"
            )
        try:
            key = serialization.load_ssh_private_key(content, password=None)
        except (ValueError, TypeError, exceptions.UnsupportedAlgorithm) as exc:
            raise _unusable(path, "it is no unencrypted OpenSSH private key") from exc
        if not isinstance(key, ed25519.Ed25519PrivateKey):
            raise _unusable(path, "it is no Ed25519 key")
        return cls(key)

    @classmethod
    def make(cls, path: Path, *, comment: str = "reconciler audit log") -> Self:
        """Make a key and write it and `<path>.pub`; a file that is already there is never written over.

        Raises: ConfigError(log_key).
        """
        key = ed25519.Ed25519PrivateKey.generate()
        private = key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.OpenSSH, serialization.NoEncryption()
        )
        public = key.public_key().public_bytes(serialization.Encoding.OpenSSH, serialization.PublicFormat.OpenSSH)
        try:
            _write_new(path, private, 0o600)
            _write_new(path.with_name(path.name + ".pub"), public + f" {comment}\n".encode(), 0o644)
        except OSError as exc:
            raise _unusable(path, exc.strerror or "it cannot be written") from exc
        return cls(key)

    @classmethod
    def from_seed(cls, seed: bytes) -> Self:
        """The key of these 32 bytes: for a log that lives as long as its process, and for a simulation that is repeated."""
        return cls(ed25519.Ed25519PrivateKey.from_private_bytes(seed))

    def sign(self, message: bytes) -> bytes:
        return self._key.sign(message)


def read_public(path: Path) -> bytes:
    """The raw 32 bytes of an OpenSSH public key file, as `verify` takes them.

    Raises: ConfigError(log_key).
    """
    try:
        key = serialization.load_ssh_public_key(path.read_bytes())
    except OSError as exc:
        raise _unusable(path, exc.strerror or "it cannot be read") from exc
    except (ValueError, exceptions.UnsupportedAlgorithm) as exc:
        raise _unusable(path, "it is no OpenSSH public key") from exc
    if not isinstance(key, ed25519.Ed25519PublicKey):
        raise _unusable(path, "it is no Ed25519 key")
    return key.public_bytes_raw()


def public_line(public: bytes) -> str:
    """The raw 32 bytes as they stand in a `.pub` file, without its comment."""
    key = ed25519.Ed25519PublicKey.from_public_bytes(public)
    return key.public_bytes(serialization.Encoding.OpenSSH, serialization.PublicFormat.OpenSSH).decode()


def raw_public(line: str) -> bytes:
    """The other way; empty for a line that is no Ed25519 key, which has signed nothing."""
    try:
        key = serialization.load_ssh_public_key(line.encode())
    except (ValueError, exceptions.UnsupportedAlgorithm):
        return b""
    return key.public_bytes_raw() if isinstance(key, ed25519.Ed25519PublicKey) else b""


def _write_new(path: Path, content: bytes, mode: int) -> None:
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode), "wb") as file:
        file.write(content)


def _unusable(path: Path, why: str) -> errors.ConfigError:
    return errors.ConfigError(
        "log_key",
        why,
        where=str(path),
        fix=f"make one: ssh-keygen -t ed25519 -N '' -C 'reconciler audit log' -f {path}",
    )
