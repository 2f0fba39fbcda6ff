r"""The embedded Rego engine in a process of its own: one JSON document in, one out. Started by `embedded.py`, never imported.

The engine is C++: a query that never ends, or one of its own faults (regopy 1.5.2 ends the process where `with` meets a
function call), must not take the daemon with it. The process has no environment, no open descriptor but its three pipes,
and a limit on CPU time. Its address space cannot be limited: the engine's allocator reserves it all at the start.

{"sessions": [{"modules": {"a.rego": "package a ..."}, "queries": [{"query": "data.a.deny", "input": {}}]}], "cpu_s": 60}
-> {"answers": [[{"ok": true, "text": "{\"expressions\":[[]]}"}]]}
"""

from __future__ import annotations

import json
import resource
import sys
from typing import Any


def answer(session: dict[str, Any]) -> list[dict[str, Any]]:
    import regopy

    engine = regopy.Interpreter()
    engine.log_level = regopy.LogLevel.NONE
    engine.strict_built_in_errors = True  # Otherwise a function that fails is undefined, and undefined denies nothing.
    try:
        for name, source in session["modules"].items():
            engine.add_module(name, source)
    except regopy.RegoError as exc:
        return [{"ok": False, "text": str(exc)}] * len(session["queries"])
    return [_ask(engine, each) for each in session["queries"]]


def _ask(engine: Any, asked: dict[str, Any]) -> dict[str, Any]:
    import regopy
    from regopy import rego_shared

    try:
        engine.set_input(asked["input"])
        # Not `query`: that parses the text as JSON before one can see that it is the text of an error.
        output = rego_shared.rego_query(engine._impl, asked["query"])  # noqa: SLF001 - see above
        return {"ok": bool(rego_shared.rego_output_ok(output)), "text": rego_shared.rego_output_string(output)}
    except regopy.RegoError as exc:
        return {"ok": False, "text": str(exc)}


def main() -> None:
    request = json.load(sys.stdin)
    resource.setrlimit(resource.RLIMIT_CPU, (request["cpu_s"], request["cpu_s"] + 1))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    json.dump({"answers": [answer(session) for session in request["sessions"]]}, sys.stdout)


if __name__ == "__main__":
    main()
