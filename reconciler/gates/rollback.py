"""The gate `rollback`: there is a way back, and what has none was acknowledged. From content alone, always asked.

The way back of a target is its last confirmed state (design.md, idea 3). It is of use only while it reads, validates
with the drivers of today, names secrets and hosts that the policy still allows, and depends on targets that still exist.
Hazards that only a look at the target shows, those of single resources, are the plan's (targets.md 1.6).

| hazard             | when                                                                   |
|--------------------|------------------------------------------------------------------------|
| deletes_target     | `mode: absent` on a target that was confirmed                          |
| delete_budget      | the same, where that is more than one deployment may delete            |
| changes_type       | another kind of target under the same name: what was built there stays |
| changes_connection | another place under the same name: what was built there stays          |
| no_way_back        | the confirmed state could not be deployed again                        |
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from typing import NamedTuple

import pydantic
from pydantic import JsonValue

from reconciler import documents, errors, model, ports, strict_yaml
from reconciler.admission import policy
from reconciler.convergence import planning
from reconciler.gates import limits, neighbours, schema, sources

MAX_FINDINGS = 100
# Who we are there and how we know the place again: rotating these moves nothing.
_CREDENTIALS = frozenset(
    [
        "user",
        "username",
        "password",
        "passphrase",
        "token",
        "key",
        "identity",
        "sshkey",
        "clientkey",
        "clientcert",
        "knownhosts",
        "hostkey",
        "hostkeys",
        "cafile",
        "ca",
    ]
)


class RollbackGate:
    """A function of the change, the policy and the drivers."""

    def __init__(self, check: model.Check, facilities: ports.GateFacilities) -> None:
        """Raises: ConfigError(options): it has neither a profile nor options, so nothing about it can be loosened."""
        if check.profile or check.options:
            raise errors.ConfigError(
                "options", f"{check.title}: `rollback` takes no options", fix="leave it out: it always runs"
            )
        self._facilities = facilities

    def check(self, change: model.Change, deadline_s: float) -> model.GateResult:  # noqa: ARG002 - milliseconds
        """Raises: AuditError(content) when the repository does not hold what was confirmed."""
        rules = policy.read_policy(self._facilities.repository, change.policies)
        found: list[model.Reason] = []
        for name in sorted(change.targets & change.before.keys() & change.after.keys()):
            before, after = change.before[name], change.after[name]
            document = sources.read_document(self._facilities.repository, after)
            asked = change.acknowledged.get(name, frozenset())
            for hazard, where, message in (
                *_hazards(before, after, document),
                *_over_budget(before, after, document, change.owned.get(name)),
                *self._no_way_back(change, before, document, rules),
            ):
                if (hazard, name) not in asked:
                    found.append(_unacknowledged(hazard, name, message, where))
            found += _emptied(before, after, document)
        outcome = model.Outcome.FAIL if found else model.Outcome.PASS
        return model.GateResult(outcome=outcome, findings=tuple(found[:MAX_FINDINGS]))

    def _no_way_back(
        self, change: model.Change, before: model.Desired, document: sources.File, rules: policy.Policy
    ) -> Iterator[_Hazard]:
        """Why the confirmed state could not be deployed again today."""
        repository = self._facilities.repository
        where = document.place(("metadata", "name"))
        try:
            confirmed = sources.read_document(repository, before)
            version = model.Version(revision=before.revision, digest=before.digest, folder=before.folder)
            documents.read_version(repository, version, before.target)
            reasons = [
                *limits.check(before, confirmed, tuple(sources.read_payload(before)), rules),
                *self._invalid(before, confirmed),
            ]
            reasons += neighbours.dependency_reasons(
                before, confirmed, neighbours.read_outlines(repository, change.revision)
            )
        except errors.ConfigError as exc:
            reasons = [model.Reason.of(exc)]
        for reason in reasons:
            yield _Hazard(
                "no_way_back",
                where,
                f"its confirmed state at {before.revision[:12]} could not be deployed again: {reason.where} {reason.message}",
            )

    def _invalid(self, before: model.Desired, confirmed: sources.File) -> model.ValidationResult:
        kind = self._facilities.drivers.get(before.kind)
        if kind is None:
            return (
                model.Reason(
                    code="unknown_type",
                    message=f"no driver for the type `{before.kind}`",
                    where=confirmed.place(("spec", "type")),
                ),
            )
        with closing(kind()) as driver:
            try:
                driver.schema.model_validate(before.spec)
            except pydantic.ValidationError as exc:
                return strict_yaml.validation_reasons(exc, confirmed.parts[0], confirmed.where, ("spec", before.kind))
            return () if before.mode is model.Mode.ABSENT else schema.validate(driver, before, confirmed)


class _Hazard(NamedTuple):
    name: str
    where: str
    message: str


def _hazards(before: model.Desired, after: model.Desired, document: sources.File) -> Iterator[_Hazard]:
    if after.mode is model.Mode.ABSENT and before.mode is not model.Mode.ABSENT:
        yield _Hazard(
            "deletes_target",
            document.place(("spec", "mode")),
            "everything that this target owns would be deleted; `reconciler plan` names what single resources need besides",
        )
    if after.kind != before.kind:
        yield _Hazard(
            "changes_type",
            document.place(("spec", "type")),
            f"its type was `{before.kind}`: what was built as that stays behind, unowned",
        )
    elif _place(after.connection) != _place(before.connection):
        yield _Hazard(
            "changes_connection",
            document.place(("spec", "connection")),
            "it would be another place: what was built at the one before stays behind",
        )


def _over_budget(
    before: model.Desired, after: model.Desired, document: sources.File, owned: int | None
) -> Iterator[_Hazard]:
    """The plan would refuse it later, when the merge is done. What is owned may not be known: then it is asked for."""
    if after.mode is not model.Mode.ABSENT or before.mode is model.Mode.ABSENT:
        return
    where = document.place(("spec", "mode"))
    budgets = [planning.deletes_allowed(side, owned or 0) for side in (before, after)]
    if owned is None:
        yield _Hazard(
            "delete_budget", where, "unless it owns a single resource, more are deleted than `deletes` allows"
        )
    elif owned > min(budgets):
        message = f"{owned} deletes in one deployment, `deletes` allows {min(budgets)}"
        yield _Hazard("delete_budget", where, message)


def _emptied(before: model.Desired, after: model.Desired, document: sources.File) -> Iterator[model.Reason]:
    """An empty payload looks like a bad template or a truncated read, and is never a wish to delete (targets.md D37)."""
    if before.payload and not after.payload and model.Mode.ABSENT not in {before.mode, after.mode}:
        yield model.Reason(
            code="emptied",
            message=f"every file of {after.target} is gone but its document: an empty desired state deletes nothing",
            where=document.place(()),
            fix="write `mode: absent` to take the target down",
        )


def _place(value: object) -> JsonValue:
    """A connection without its credentials."""
    return _without(sources.as_json(value))


def _without(value: JsonValue) -> JsonValue:
    match value:
        case dict():
            return {key: _without(below) for key, below in value.items() if key.lower() not in _CREDENTIALS}
        case list():
            return [_without(below) for below in value]
        case _:
            return value


def _unacknowledged(hazard: str, name: str, message: str, where: str) -> model.Reason:
    fix = f"if it is meant, add to spec of target.yaml: acknowledge: [{{hazard: {hazard}, key: {name}, reason: ...}}]"
    return model.Reason(code="hazard", message=f"{hazard} {name}: {message}", where=where, fix=fix)
