"""The organisation's Rego policies at one commit, loaded only if they can say no: guarded (guards.py) and proven (proving.py)."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import dataclass

from reconciler import errors, model, ports
from reconciler.gates import guards, proving, rego

FOLDER = b"policies/"
MAX_BYTES = 1 << 20
LOAD_S = 60.0

# The fields of the input document (see opa.py), so that a misspelt one is refused. Empty: what is below is free.
FIELDS: Mapping[str, frozenset[str]] = {
    "target": frozenset(
        {"name", "type", "environment", "labels", "mode", "connection", "dependsOn", "spec", "document"}
    ),
    "files": frozenset(),
    "texts": frozenset(),
    "opaque": frozenset(),
    "before": frozenset({"target", "files", "texts", "opaque"}),
    "change": frozenset({"revision", "head", "policies", "targets"}),
    "acknowledged": frozenset(),
}


@dataclass(frozen=True)
class Library:
    """Policies that may judge. `sources`: path -> text, tests left out."""

    digest: model.Digest
    sources: tuple[tuple[str, str], ...]
    packages: Mapping[str, tuple[str, ...]]  # package -> its files
    warns: frozenset[str]  # packages with a `warn` rule

    def rules(self, package: str) -> tuple[str, ...]:
        return ("deny", "warn") if package in self.warns else ("deny",)

    def chosen(self, profile: str) -> tuple[str, ...]:
        """The packages of a check: named by package or by file, or all of them where the check names none.

        Raises: ConfigError(rego) for a name that is neither.
        """
        if not profile:
            return tuple(sorted(self.packages))
        path = f"policies/{profile.removeprefix('policies/').removesuffix('.rego')}.rego"
        found = {name for name, files in self.packages.items() if name == profile or path in files}
        if not found:
            raise errors.ConfigError(
                "rego",
                f"opa: {profile}: neither a package nor a file of policies/",
                fix=f"one of {', '.join(sorted(self.packages))}",
            )
        return tuple(sorted(found))


def read_library(repository: ports.Repository, revision: model.Oid) -> Library:
    """The policies of this commit. Blocks for their tests the first time that this content is seen.

    Raises: ConfigError(rego) with file and line.
    """
    tree = repository.tree(revision)
    paths = sorted(path for path in tree if path.startswith(FOLDER) and path.endswith(b".rego"))
    return load(tuple((_name(path), repository.read(tree[path].oid)) for path in paths))


def _name(path: bytes) -> str:
    return path.decode(errors="backslashreplace")


@functools.lru_cache(maxsize=32)
def load(blobs: tuple[tuple[str, bytes], ...]) -> Library:
    """(path, content) of every .rego file -> a library. A function of its input; a refusal is not remembered.

    Raises: ConfigError(rego).
    """
    modules = [rego.read_module(path, _text(path, blob)) for path, blob in blobs]
    policies = [m for m in modules if not m.tests]
    if not policies:
        raise errors.ConfigError(
            "rego",
            "no policy (*.rego) stands in policies/",
            where="policies",
            fix="add one with its tests, or remove the check `opa`",
        )
    if sum(len(blob) for _, blob in blobs) > MAX_BYTES:
        raise errors.ConfigError("rego", f"more than {MAX_BYTES} bytes of Rego", where="policies")
    guards.guard(modules, FIELDS)
    proving.prove(modules, within_s=LOAD_S)
    packages: dict[str, tuple[str, ...]] = {}
    for module in policies:
        packages[module.package] = (*packages.get(module.package, ()), module.path)
    return Library(
        digest=model.sha256(
            b"".join(path.encode() + b"\0" + model.sha256(blob).encode() + b"\n" for path, blob in blobs)
        ),
        sources=tuple((m.path, m.source) for m in policies),
        packages=packages,
        warns=frozenset(m.package for m in policies if m.named("warn")),
    )


def _text(path: str, blob: bytes) -> str:
    try:
        text = blob.decode()
    except UnicodeDecodeError as exc:
        raise errors.ConfigError("rego", "not UTF-8", where=path) from exc
    if "\0" in text:  # The engine reads C strings: it would stop here, and the rules below would not exist.
        raise errors.ConfigError("rego", "a NUL byte", where=path)
    return text
