"""The proof that a state may be deployed; read back from the log and the repository, never passed along."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from reconciler import documents, errors, model, ports
from reconciler.audit import log


@dataclass(frozen=True)
class Admitted:
    """Made by `read_admitted` only. `acknowledged`: (hazard, key) that merges added since the last confirmed state.

    They stand beside the state and not in it: going back to the same state later acknowledges nothing.
    """

    state: model.Wanted
    acknowledged: frozenset[tuple[str, model.Key]] = frozenset()


Read = Callable[[str, model.Version], Admitted]


def read_admitted(repository: ports.Repository, audit: log.Log, target: str, version: model.Version) -> Admitted:
    """The same call right after a verdict, after a restart, and for a rollback to an older revision or a snapshot.

    The delete budget is the smaller of what stood in the confirmed document and stands in this one.

    Raises: AuditError(content) when the repository does not hold what the log says; ConfigError with file and line.
    """
    if version.revision is None:
        return Admitted(state=model.Snapshot.model_validate_json(audit.evidence(version.digest)))
    document = documents.read_version(repository, version, target)
    if document is None:
        raise errors.AuditError("content", f"{target} has no document at {version.revision}")
    old = _confirmed(repository, audit.state.target(target).confirmed, target)
    added = document.acknowledge - (old.acknowledge if old else frozenset())
    sides = [document.desired, *([old.desired] if old else [])]
    smaller = {
        "max_deletes": min(side.max_deletes for side in sides),
        "max_delete_percent": min(side.max_delete_percent for side in sides),
    }
    return Admitted(
        state=document.desired.model_copy(update=smaller),
        acknowledged=frozenset((each.hazard, each.key) for each in added),
    )


def _confirmed(
    repository: ports.Repository, confirmed: model.Version | None, target: str
) -> documents.TargetDocument | None:
    return documents.read_version(repository, confirmed, target) if confirmed else None
