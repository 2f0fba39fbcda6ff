r"""CEL in a process of its own: one JSON line in, one out, until stdin ends. Started by `expressions.py`, never imported.

Evaluation cannot be interrupted: two nested `all` over a list of 2,000 numbers take four seconds, and a third makes it hours,
during which the extension does not let go of the interpreter. The process has no environment, a cap on memory, and an alarm
that ends it; should its parent be gone, it does not stay behind.

{"expressions": ["false", "self.status.phase == \"Ready\""], "body": {...}} -> {"holds": [false, true]}
{"parse": "self.status..phase"} -> {"wrong": "Failed to parse ..."}
{"parse": "size(self.spec)"} -> {"variables": ["self"], "functions": ["size"]}
"""

from __future__ import annotations

import importlib.machinery
import importlib.util
import json
import resource
import signal
import sys
from pathlib import Path
from typing import Any

MEMORY_BYTES = 512 << 20
ALARM_S = 5


def load() -> Any:
    """The extension alone: its package imports a command line, and with it two seconds of other libraries."""
    package = importlib.util.find_spec("cel")
    if package is None or not package.submodule_search_locations:
        raise ImportError("cel")
    folder = Path(package.submodule_search_locations[0])
    path = next(p for p in (folder / f"cel{suffix}" for suffix in importlib.machinery.EXTENSION_SUFFIXES) if p.exists())
    loader = importlib.machinery.ExtensionFileLoader("cel", str(path))
    spec = importlib.util.spec_from_loader("cel", loader, origin=str(path))
    if spec is None:
        raise ImportError("cel")
    module = importlib.util.module_from_spec(spec)
    loader.exec_module(module)
    return module


def hold(cel: Any, asked: dict[str, Any]) -> list[bool]:
    return [_holds(cel, expression, asked["body"]) for expression in asked["expressions"]]


def parse(cel: Any, expression: str) -> dict[str, Any]:
    try:
        program = cel.compile(expression)
        return {"variables": program.variables(), "functions": program.functions()}
    except BaseException as exc:  # noqa: BLE001 - a panic of the library is no Exception
        return {"wrong": str(exc)[:1000] or type(exc).__name__}


def _holds(cel: Any, expression: str, body: Any) -> bool:
    """An error is false: a field that is not there, a division by zero, a word instead of a truth value."""
    try:
        return cel.evaluate(expression, {"self": body}) is True
    except BaseException:  # noqa: BLE001 - as above; an alarm or a lack of memory ends the process whatever stands here
        return False


def main() -> None:
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, MEMORY_BYTES))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    cel = load()
    for line in sys.stdin:
        asked = json.loads(line)
        signal.alarm(ALARM_S)  # Nobody handles it, so it ends the process whatever the extension does.
        answer = parse(cel, asked["parse"]) if "parse" in asked else {"holds": hold(cel, asked)}
        signal.alarm(0)
        sys.stdout.write(json.dumps(answer) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
