"""Runs `evaluate.py` in a child process and reads its answers: anything but one defined JSON value is an error."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from pydantic import JsonValue

from reconciler import errors

EVALUATE = Path(__file__).with_name("evaluate.py")


@dataclass(frozen=True)
class Session:
    """Queries over the same modules (path -> source), each with its own input."""

    modules: Mapping[str, str]
    queries: tuple[tuple[str, JsonValue], ...]  # (query, input)
    undefined: bool = False  # None for a query that is undefined, instead of an error: a test that does not hold
    failed: bool = False  # None where the engine fails, too: a test that meets what it was not written for


def evaluate(sessions: Sequence[Session], *, within_s: float) -> tuple[tuple[JsonValue, ...], ...]:
    """The value of each query, in the order of `sessions`. Blocks; the child is killed at the deadline.

    Raises: ConfigError(rego) where the engine refuses a module, fails in a function, or finds a query undefined;
    TransientError(opa_late) at the deadline; PermanentError(opa_engine) where the child ended without an answer.
    """
    asked = [
        {"modules": dict(s.modules), "queries": [{"query": query, "input": shown} for query, shown in s.queries]}
        for s in sessions
    ]
    answers = _ask({"sessions": asked, "cpu_s": max(1, int(within_s))}, within_s)
    if [len(answer) for answer in answers] != [len(session.queries) for session in sessions]:
        raise errors.PermanentError("opa_engine", "the embedded engine gave no answer to every query")
    return tuple(
        tuple(_value(s, query, each) for (query, _), each in zip(s.queries, answer, strict=True))
        for s, answer in zip(sessions, answers, strict=True)
    )


def _ask(request: dict[str, object], within_s: float) -> list[list[JsonValue]]:
    try:
        done = subprocess.run(  # noqa: S603 - constant arguments; what was read from Git travels on stdin
            [sys.executable, "-I", str(EVALUATE)],
            input=json.dumps(request).encode(),
            capture_output=True,
            timeout=within_s,
            env={},
            cwd="/",
            check=False,
        )
    except subprocess.TimeoutExpired as exc:
        raise errors.TransientError("opa_late", f"the embedded engine gave no answer within {within_s:.0f} s") from exc
    if b"libatomic.so.1" in done.stderr:
        fix = "install it: apt-get install libatomic1, or your system's package of that name"
        raise errors.PermanentError("opa_engine", "the embedded engine needs the library libatomic.so.1", fix=fix)
    if done.returncode != 0:
        raise errors.PermanentError("opa_engine", f"the embedded engine ended with status {done.returncode}")
    try:
        answers: list[list[JsonValue]] = json.loads(done.stdout)["answers"]
    except (ValueError, LookupError, TypeError) as exc:
        raise errors.PermanentError("opa_engine", "the embedded engine's answer cannot be read") from exc
    return answers


def _value(session: Session, query: str, answer: JsonValue) -> JsonValue:
    """regopy 1.5.2 calls some errors "ok": only a JSON document with exactly one defined expression is an answer."""
    match answer:
        case {"ok": True, "text": "undefined"} if session.undefined:
            return None
        case {"ok": True, "text": "undefined"}:
            raise errors.ConfigError("rego", f"{query} is undefined", fix="see that the package and its rule exist")
        case {"ok": True, "text": str() as text}:
            document = _parsed(text)
        case _:
            text, document = str(answer.get("text")) if isinstance(answer, dict) else "", None
    match document:
        case {"expressions": [value], **rest} if not rest:
            return value
        case _ if session.failed:
            return None
        case _:
            raise errors.ConfigError("rego", f"{query}: {_words(text)}", fix="run the tests of this policy")


def _parsed(text: str) -> JsonValue:
    try:
        document: JsonValue = json.loads(text)
    except ValueError:
        return None
    return document


def _words(text: str) -> str:
    """The message in the engine's dump of its syntax tree, `(errormsg 26:Function not found: nosuch)`."""
    _, found, rest = text.partition("errormsg ")
    length, _, words = rest.partition(":")
    if found and length.isdigit():
        return words[: int(length)]
    return "a function refused its arguments, or two rules conflict"
