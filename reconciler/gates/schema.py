"""The gate `schema`: shape, references and environment limits of every target of a change. First of all gates, always."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from datetime import date

import pydantic

from reconciler import errors, model, ports, strict_yaml
from reconciler.admission import policy
from reconciler.gates import limits, neighbours, sources

MAX_FINDINGS = 100


class SchemaGate:
    """Pure but for the date, which ends `ignore` entries. Contacts nothing and resolves no secret."""

    def __init__(self, check: model.Check, facilities: ports.GateFacilities) -> None:
        """Raises: ConfigError(options): it has neither a profile nor options, so nothing about it can be loosened."""
        if check.profile or check.options:
            raise errors.ConfigError(
                "options", f"{check.title}: `schema` takes no options", fix='write `schema: ""` or leave it out'
            )
        self._facilities = facilities

    def check(self, change: model.Change, deadline_s: float) -> model.GateResult:  # noqa: ARG002 - milliseconds
        """All findings of all targets, the first hundred of them."""
        repository = self._facilities.repository
        rules = policy.read_policy(repository, change.policies)
        outlines = neighbours.read_outlines(repository, change.revision)
        found: list[model.Reason] = []
        for name in sorted(change.targets & change.after.keys()):
            desired = change.after[name]
            document = sources.read_document(repository, desired)
            files = {file.path: file for file in sources.read_payload(desired)}
            outside = limits.check(desired, document, files.values(), rules)
            said = {(reason.code, reason.message) for reason in outside}
            found += outside
            # What a driver's objects refer to stands in the files too, mostly: there it has a line of its own.
            found += (r for r in self._shape(desired, document, rules) if (r.code, r.message) not in said)
            found += _expired(desired, document, self._facilities.clock.now().date())
            found += neighbours.dependency_reasons(desired, document, outlines)
            found += neighbours.rename_reasons(desired, document, outlines)
            found += neighbours.claim_reasons(repository, change.revision, desired, files, outlines)
        outcome = model.Outcome.FAIL if found else model.Outcome.PASS
        return model.GateResult(outcome=outcome, findings=tuple(dict.fromkeys(found))[:MAX_FINDINGS])

    def _shape(self, desired: model.Desired, document: sources.File, rules: policy.Policy) -> model.ValidationResult:
        kind = self._facilities.drivers.get(desired.kind)
        if kind is None:
            known = ", ".join(sorted(self._facilities.drivers)) or "none"
            return (
                model.Reason(
                    code="unknown_type",
                    message=f"no driver for the type `{desired.kind}`",
                    where=document.place(("spec", "type")),
                    fix=f"one of {known}",
                ),
            )
        with closing(kind()) as driver:
            try:
                driver.schema.model_validate(desired.spec)
            except pydantic.ValidationError as exc:
                at = ("spec", desired.kind)
                return strict_yaml.validation_reasons(exc, document.parts[0], document.where, at, schema=driver.schema)
            # What is taken down has no payload, and no driver needs one for that.
            found = () if desired.mode is model.Mode.ABSENT else validate(driver, desired, document)
            if found or not isinstance(driver, ports.Rendering):
                return found
            return limits.check_references(desired, driver.references(desired), rules)


def validate(driver: ports.Driver, desired: model.Desired, document: sources.File) -> model.ValidationResult:
    """What the driver says of it; a reason without a place gets that of the document."""
    try:
        found = driver.validate(desired)
    except errors.ConfigError as exc:
        found = (model.Reason.of(exc),)
    return tuple(r if r.where else r.model_copy(update={"where": document.place(())}) for r in found)


def _expired(desired: model.Desired, document: sources.File, today: date) -> Iterator[model.Reason]:
    for i, entry in enumerate(desired.ignore):
        if not entry.until:
            continue
        where = document.place(("spec", "ignore", i, "until"))
        try:
            until = date.fromisoformat(entry.until)
        except ValueError:
            yield model.Reason(
                code="ignore", message=f"ignore: {entry.until!r} is no date", where=where, fix='write "2027-01-31"'
            )
            continue
        if until < today:
            yield model.Reason(
                code="ignore",
                message=f"ignore: the entry for {entry.key} ended on {entry.until}",
                where=where,
                fix="remove it, or renew it with a reason",
            )
