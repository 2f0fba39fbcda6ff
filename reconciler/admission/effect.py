"""What a merge does, from raw blobs alone (trust.md 2.1). The one digest that approvals bind."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from reconciler import documents, model

_NOTHING = b"0" * 64
_ABSENT = b"000000 " + _NOTHING
_IN_A_FOLDER = 2  # targets/<name>/... has more parts than this


@dataclass(frozen=True)
class Effect:
    digest: model.Digest
    paths: tuple[bytes, ...]  # changed, sorted; adds, deletes and modes too; no rename detection
    folders: tuple[bytes, ...]  # touched, sorted: `policies`, `targets/<name>`
    targets: Mapping[str, model.Digest | None]  # touched: its folder's digest after; None: it has no document any more
    policies: model.Digest | None  # the same for policies/; None: not touched, or gone


def changed(before: model.Tree, after: model.Tree) -> tuple[bytes, ...]:
    """The raw paths whose blob or mode differs, sorted."""
    # Most entries are the same objects on both sides; this runs over every file of the repository at each merge.
    both = zip(after, after.values(), map(before.get, after), strict=True)
    differing = [path for path, new, old in both if new is not old and new != old]
    added = sum(1 for path in differing if path not in before)
    gone = [path for path in before if path not in after] if len(before) + added != len(after) else []
    return tuple(sorted(differing + gone))


def compare(before: model.Tree, after: model.Tree) -> Effect:
    """Compare the trees of the last accepted commit and of a merge, wherever between them the merge was cut.

    So an approval survives unrelated merges and dies when one of its paths or targets moves; and a recovery merge, which
    stands on commits that were never accepted, is one change like any other.
    """
    paths = changed(before, after)
    folders = tuple(sorted({folder for path in paths if (folder := folder_of(path))}))
    digests = _folder_digests(after, folders)
    lines = [b"%s\0%s %s\n" % (path, _blob(before, path), _blob(after, path)) for path in paths]
    lines += [b"folder %s %s\n" % (folder, (digests[folder] or "").encode() or _NOTHING) for folder in folders]
    return Effect(
        digest=model.sha256(b"".join(lines)),
        paths=paths,
        folders=folders,
        targets={target_of(f): _target_digest(f, after, digests) for f in folders if _is_target(f, before, after)},
        policies=digests.get(b"policies"),
    )


def folder_of(path: bytes) -> bytes:
    """The folder that this path touches: `policies` or `targets/<name>`; empty for any other place."""
    parts = path.split(b"/")
    if parts[0] == b"policies" and len(parts) > 1:
        return parts[0]
    return b"/".join(parts[:2]) if parts[0] == b"targets" and len(parts) > _IN_A_FOLDER else b""


def target_of(folder: bytes) -> str:
    return folder.removeprefix(b"targets/").decode(errors="surrogateescape")


def document_of(folder: bytes) -> bytes:
    return folder + b"/target.yaml"


def _is_target(folder: bytes, *trees: model.Tree) -> bool:
    return folder != b"policies" and any(document_of(folder) in tree for tree in trees)


def _target_digest(
    folder: bytes, after: model.Tree, digests: Mapping[bytes, model.Digest | None]
) -> model.Digest | None:
    return digests[folder] if document_of(folder) in after else None


def _folder_digests(tree: model.Tree, folders: tuple[bytes, ...]) -> dict[bytes, model.Digest | None]:
    """One pass over the tree, however many folders: only those that were touched are hashed again."""
    roots = tuple(folder + b"/" for folder in folders)
    files: dict[bytes, dict[bytes, model.Entry]] = {folder: {} for folder in folders}
    for path in [path for path in tree if path.startswith(roots)] if roots else ():
        files[folder_of(path)][path] = tree[path]
    return {folder: documents.content_digest(found) if found else None for folder, found in files.items()}


def _blob(tree: model.Tree, path: bytes) -> bytes:
    entry = tree.get(path)
    return b"%s %s" % (entry.mode.encode(), entry.sha256.encode()) if entry else _ABSENT
