"""Asks `evaluate.py`, in a child process, whether expressions of CEL hold for an object.

Read-only by the language; bounded here: in the length of an expression, the size of the object, time and memory. A child is
kept between questions (an answer takes about a tenth of a millisecond, a new child a fifth of a second) and thrown away after
anything but an answer. No two callers share one, so an expression that never ends costs its own target two seconds a minute and nobody else.
"""

from __future__ import annotations

import atexit
import json
import os
import re
import select
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from pydantic import JsonValue

from reconciler.targets.openshift import document
from reconciler.targets.openshift.judging import judged

MAX_BODY_BYTES = 256 << 10  # of the object, without what says who wrote which field
STARTS_IN_S = 10.0
ANSWERS_IN_S = 2.0
RESTS_S = 60.0  # A question that got no answer is not asked again so soon: a kind may have hundreds of objects.
IDLE = 4  # children kept
EVALUATE = Path(__file__).with_name("evaluate.py")
_ANSWER_BYTES = 16 << 10

# The library's own; it has none of the optional syntax, and `matches` only as a method.
_FUNCTIONS = frozenset(
    {"size", "contains", "startsWith", "endsWith", "matches", "type", "dyn", "int", "uint", "double", "string", "bytes"}
    | {"timestamp", "duration", "getFullYear", "getMonth", "getDate", "getDayOfMonth", "getDayOfWeek", "getDayOfYear"}
    | {"getHours", "getMinutes", "getSeconds", "getMilliseconds"}
)
_NAMES = frozenset({"self", "int", "uint", "double", "string", "bytes", "bool", "list", "map", "null_type", "type"})
_BOUND = re.compile(r"\.\s*(?:all|exists|exists_one|map|filter)\s*\(\s*([A-Za-z_][A-Za-z0-9_]*)\s*,")
_OPERATOR = re.compile(r"[@_!-].*")


class Child:
    """One process that answers, one question after the other."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(  # noqa: S603 - constant arguments; what was read from Git travels on stdin
            [sys.executable, "-I", str(EVALUATE)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env={},
            cwd="/",
        )

    @property
    def pid(self) -> int:
        return self._process.pid

    def ask(self, question: Mapping[str, JsonValue], within_s: float) -> JsonValue:
        """The answer; None where there is none in time. The child is of no more use then."""
        stdin, stdout = self._process.stdin, self._process.stdout
        if stdin is None or stdout is None:
            return None
        try:
            stdin.write(json.dumps(question).encode() + b"\n")
            stdin.flush()
            answer = _line(stdout.fileno(), time.monotonic() + within_s)
            found: JsonValue = json.loads(answer)
        except (OSError, ValueError):
            return None
        return found

    def close(self) -> None:
        self._process.kill()
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe:
                try:
                    pipe.close()
                except OSError:  # Bytes that nobody will read.
                    continue
        self._process.wait()


class _Children:
    """Those that wait for a question."""

    def __init__(self) -> None:
        self._idle: list[Child] = []
        self._resting: dict[str, float] = {}  # what is asked, apart from the object -> until when
        self._changed = threading.Lock()

    def ask(self, question: Mapping[str, JsonValue]) -> Mapping[str, JsonValue]:
        """Raises: TimeoutError where there is no answer."""
        asked = json.dumps([question.get("expressions"), question.get("parse")])
        if self._resting.get(asked, 0) > time.monotonic():
            raise TimeoutError("it got no answer a moment ago")
        child = self._take()
        answer = child.ask(question, ANSWERS_IN_S)
        if not isinstance(answer, dict):
            child.close()
            self._resting[asked] = time.monotonic() + RESTS_S
            raise TimeoutError("no answer")
        self._keep(child)
        return answer

    def close(self) -> None:
        with self._changed:
            idle, self._idle = self._idle, []
        for child in idle:
            child.close()

    def _take(self) -> Child:
        with self._changed:
            if self._idle:
                return self._idle.pop()
        child = Child()
        if child.ask({"expressions": []}, STARTS_IN_S) is None:
            child.close()
            raise TimeoutError("the evaluator does not start")
        return child

    def _keep(self, child: Child) -> None:
        with self._changed:
            if len(self._idle) < IDLE:
                self._idle.append(child)
                return
        child.close()


_children = _Children()
atexit.register(_children.close)


def holds(expressions: Sequence[str], body: judged.Body) -> tuple[bool | None, ...]:
    """Whether each holds for `self`. An error within one is false; None for all: there is no answer."""
    nothing = (None,) * len(expressions)
    shown = _without_managers(body)
    if any(len(each) > document.MAX_EXPRESSION_CHARS for each in expressions) or not _fits(shown):
        return nothing
    try:
        answers = _children.ask({"expressions": list(expressions), "body": shown}).get("holds")
    except TimeoutError:
        return nothing
    if not isinstance(answers, list) or len(answers) != len(expressions):
        return nothing
    return tuple(each is True for each in answers)


def check(expression: str) -> str:
    """What is wrong with it, in words; empty where nothing is."""
    if len(expression) > document.MAX_EXPRESSION_CHARS:
        return f"longer than {document.MAX_EXPRESSION_CHARS} characters"
    try:
        answer = _children.ask({"parse": expression})
    except TimeoutError:
        return "it could not be parsed in time"
    if wrong := judged.text(answer, "wrong"):
        return judged.shown(wrong)
    names = {str(each) for each in _listed(answer, "variables")} - _NAMES - set(_BOUND.findall(expression))
    calls = {str(each) for each in _listed(answer, "functions")} - _FUNCTIONS
    strange = sorted(names) + sorted(each for each in calls if not _OPERATOR.fullmatch(each))
    return f"{strange[0]!r} is not known; the object is `self`" if strange else ""


def _listed(answer: Mapping[str, JsonValue], field: str) -> list[JsonValue]:
    found = answer.get(field)
    return found if isinstance(found, list) else []


def _without_managers(body: judged.Body) -> dict[str, JsonValue]:
    metadata = body.get("metadata")
    if not isinstance(metadata, Mapping):
        return dict(body)
    return {**body, "metadata": {key: value for key, value in metadata.items() if key != "managedFields"}}


def _fits(body: Mapping[str, JsonValue]) -> bool:
    try:
        return len(json.dumps(body)) <= MAX_BODY_BYTES
    except (ValueError, TypeError, RecursionError):
        return False


def _line(descriptor: int, until: float) -> bytes:
    """One line of a pipe.

    Raises: OSError where it ends, takes too long, or is too long.
    """
    found = b""
    poll = select.poll()
    poll.register(descriptor, select.POLLIN)
    while not found.endswith(b"\n"):
        left_s = until - time.monotonic()
        if left_s <= 0 or len(found) > _ANSWER_BYTES or not poll.poll(left_s * 1000):
            raise OSError("no line in time")
        chunk = os.read(descriptor, _ANSWER_BYTES)
        if not chunk:
            raise OSError("the pipe ended")
        found += chunk
    return found
