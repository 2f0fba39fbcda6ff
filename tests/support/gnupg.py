"""The stock gpg as a maker of keys and signatures, in a home of its own that ends with the test."""

from __future__ import annotations

import contextlib
import os
import subprocess
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from reconciler import model
from support import estate, signing

LONG_AGO = "20200101T000000"  # where keys that have expired by now begin
_QUIET = ("--batch", "--quiet", "--no-tty", "--pinentry-mode", "loopback", "--passphrase", "")


@dataclass(frozen=True)
class Key:
    fingerprint: str
    public: str  # gpg --export --armor


class Gnupg:
    """Made keys stay for the whole session: `ed25519`, `rsa3072`, and so on by their algorithm."""

    def __init__(self, home: Path) -> None:
        self._home = home
        self._keys: dict[tuple[str, ...], Key] = {}

    def run(self, *options: str, stdin: bytes = b"") -> bytes:
        environment = {"PATH": os.environ["PATH"], "GNUPGHOME": str(self._home), "LC_ALL": "C"}
        argv = ("gpg", *_QUIET, *options)
        done = subprocess.run(argv, input=stdin, capture_output=True, check=False, env=environment)
        assert done.returncode == 0, done.stderr.decode()
        return done.stdout

    def key(self, name: str, algorithm: str = "ed25519", *, expires: str = "never", at: str = "") -> Key:
        """A key that signs; `at` is when it was made, and `expires` how long after that it ends."""
        made = (name, algorithm, expires, at)
        if made not in self._keys:
            who = f"{name} <{name}@bank.example>"
            self.run(*_time(at), "--quick-generate-key", who, algorithm, "sign", expires)
            self._keys[made] = self._exported(self._fingerprint(name))
        return self._keys[made]

    def with_subkey(self, name: str, *, expires: str, at: str) -> Key:
        """A primary key that only certifies and has no end, and a subkey that signs and has one."""
        made = (name, expires, at)
        if made not in self._keys:
            who = f"{name} <{name}@bank.example>"
            self.run(*_time(at), "--quick-generate-key", who, "ed25519", "cert", "never")
            primary = self._fingerprint(name)
            self.run(*_time(at), "--quick-add-key", primary, "ed25519", "sign", expires)
            self._keys[made] = self._exported(primary)
        return self._keys[made]

    def revoked(self, key: Key) -> Key:
        """The same key with the certificate that gpg made beside it, as somebody else's gpg exports it."""
        path = self._home / "openpgp-revocs.d" / f"{key.fingerprint}.rev"
        with opened() as other:
            other.run("--import", stdin=key.public.encode())
            other.run("--import", stdin=path.read_bytes().replace(b":-----BEGIN", b"-----BEGIN"))
            return other._exported(key.fingerprint)

    def sign(self, message: bytes, *keys: Key, at: str = "", digest: str = "") -> bytes:
        """The armored detached signature."""
        users = [part for key in keys for part in ("-u", key.fingerprint)]
        algorithm = ("--digest-algo", digest) if digest else ()
        return self.run(*_time(at), *algorithm, *users, "--detach-sign", "--armor", stdin=message)

    def end(self) -> None:
        subprocess.run(("gpgconf", "--homedir", self._home, "--kill", "all"), check=False, capture_output=True)

    def _fingerprint(self, name: str) -> str:
        listed = self.run("--list-keys", "--with-colons", f"={name} <{name}@bank.example>").decode()
        return next(line for line in listed.splitlines() if line.startswith("fpr:")).split(":")[9]

    def _exported(self, fingerprint: str) -> Key:
        return Key(fingerprint, self.run("--export", "--armor", fingerprint).decode())


def _time(at: str) -> tuple[str, ...]:
    return ("--faked-system-time", f"{at}!", "--ignore-time-conflict") if at else ()


@contextlib.contextmanager
def opened() -> Iterator[Gnupg]:
    """In a folder whose name is short: gpg puts sockets into it."""
    with tempfile.TemporaryDirectory(prefix="g") as name:
        made = Gnupg(Path(name))
        try:
            yield made
        finally:
            made.end()


def key_document(key: Key, *use: str, **fields: object) -> estate.Spec:
    """As the policy lists it."""
    made: estate.Spec = {"id": key.fingerprint, "type": "openpgp", "public": key.public, "use": [*use]}
    return made | {"notBefore": "2026-06-01T00:00:00Z", "notAfter": "2027-06-01T00:00:00Z"} | fields


def sign_commit(bank: estate.Estate, unsigned: model.Oid, armored: bytes) -> model.Oid:
    """The same commit with this signature, as `git commit -S` writes it."""
    return bank.store.add(b"commit", signing.insert_signature(bank.store.commit(unsigned), armored))
