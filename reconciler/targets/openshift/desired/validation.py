"""What can be said against a target of this kind without a cluster and without secrets: the driver's `validate`."""

from __future__ import annotations

from collections.abc import Iterator

import pydantic

from reconciler import errors, model, strict_yaml
from reconciler.targets import probes
from reconciler.targets.openshift import document, naming
from reconciler.targets.openshift.desired import manifests
from reconciler.targets.openshift.judging import health

_NO_LINES = strict_yaml.Located({}, {})


def check(desired: model.Desired) -> model.ValidationResult:
    """All findings: of the document, of its health rules, of the payload. Renders where the document says so."""
    where = document.where(desired)
    found = [*_document(desired, where), *_keys(desired, where), *_probes(desired, where)]
    if found:
        return tuple(found)
    options = document.options(desired)
    ruled = (health.check_rule(rule) for rule in options.health)
    found += [reason.model_copy(update={"where": reason.where or where}) for reason in ruled if reason]
    return (*found, *manifests.problems(desired))


def _document(desired: model.Desired, where: str) -> Iterator[model.Reason]:
    parts: tuple[tuple[type[pydantic.BaseModel], model.Document, str], ...] = (
        (document.Options, desired.spec, "openshift"),
        (document.Connection, desired.connection, "connection"),
    )
    for schema, given, name in parts:
        try:
            schema.model_validate(dict(given))
        except pydantic.ValidationError as exc:
            yield from strict_yaml.validation_reasons(exc, _NO_LINES, where, ("spec", name), schema=schema)


def _keys(desired: model.Desired, where: str) -> Iterator[model.Reason]:
    for key in sorted(desired.adopt):
        try:
            naming.parse_key(key)
        except errors.ConfigError as exc:
            yield model.Reason(code="schema", message=f"adopt: {exc.message}", where=where, fix=exc.fix)


def _probes(desired: model.Desired, where: str) -> Iterator[model.Reason]:
    for probe in desired.probes:
        yield from probes.validate_probe(probe, where)
        if probe.kind == "file":
            message = "health: a cluster has no files that a probe could read"
            yield model.Reason(code="schema", message=message, where=where, fix="use http or port, or a health rule")
