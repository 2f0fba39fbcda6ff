"""Errors on the wire: `{apiVersion, kind: Error, code, message, where, fix}` under an HTTP status, and back again.

Kept apart from `api.py`, because a client needs this and nothing of what stands behind the API.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from http import HTTPStatus

from pydantic import JsonValue

from reconciler import errors, redact

PREFIX = "/api/v1"
API_VERSION = "reconciler/v1"

# By consequence, as the classes are.
STATUS: Mapping[type[errors.ReconcilerError], HTTPStatus] = {
    errors.ConfigError: HTTPStatus.BAD_REQUEST,
    errors.TransientError: HTTPStatus.SERVICE_UNAVAILABLE,
    errors.PermanentError: HTTPStatus.CONFLICT,
    errors.OutcomeUnknownError: HTTPStatus.BAD_GATEWAY,
    # Not 500, which is what an error of ours looks like.
    errors.AuditError: HTTPStatus.INSUFFICIENT_STORAGE,
}
# ConfigErrors for which HTTP has a better word.
_BY_CODE: Mapping[str, HTTPStatus] = {
    "forbidden": HTTPStatus.FORBIDDEN,
    "no_operation": HTTPStatus.NOT_FOUND,
    "no_target": HTTPStatus.NOT_FOUND,
    "no_deployment": HTTPStatus.NOT_FOUND,
    "no_record": HTTPStatus.NOT_FOUND,
    "no_revision": HTTPStatus.NOT_FOUND,
    "no_person": HTTPStatus.NOT_FOUND,
    "no_rule": HTTPStatus.NOT_FOUND,
    "no_gate": HTTPStatus.NOT_FOUND,
    "method": HTTPStatus.METHOD_NOT_ALLOWED,
    "too_large": HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
}


@dataclass(frozen=True)
class Answer:
    status: int
    document: JsonValue


INTERNAL = Answer(
    HTTPStatus.INTERNAL_SERVER_ERROR,
    {
        "apiVersion": API_VERSION,
        "kind": "Error",
        "code": "internal",
        "message": "the daemon met an error of its own",
        "where": "",
        "fix": "its log says more",
    },
)


def problem(exc: errors.ReconcilerError) -> Answer:
    """Redacted: a message may repeat what a target or a commit said."""
    status = next(
        (status for kind, status in STATUS.items() if isinstance(exc, kind)), HTTPStatus.INTERNAL_SERVER_ERROR
    )
    if status is HTTPStatus.BAD_REQUEST:
        status = _BY_CODE.get(exc.code, status)
    texts = {"code": exc.code, "message": exc.message, "where": exc.where, "fix": exc.fix}
    clean: dict[str, JsonValue] = {name: redact.text(value) for name, value in texts.items()}
    return Answer(status, {"apiVersion": API_VERSION, "kind": "Error", **clean})


def error_of(status: int, document: Mapping[str, JsonValue]) -> errors.ReconcilerError:
    """The error behind a problem document. A status without a class of its own says that it was asked wrongly;
    `internal` is PermanentError: asking again does not help.
    """
    internal = errors.PermanentError if status == INTERNAL.status else errors.ConfigError
    kind = next((kind for kind, known in STATUS.items() if known == status), internal)
    return kind(
        str(document.get("code", "")),
        str(document.get("message", "")),
        where=str(document.get("where", "")),
        fix=str(document.get("fix", "")),
    )
