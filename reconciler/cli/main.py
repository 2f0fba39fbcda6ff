"""The console script: which commands there are, and how each ends. A command's module is imported when it is named."""

from __future__ import annotations

import gc
import importlib
import os
import sys
from collections.abc import Sequence
from typing import Annotated, Any, NamedTuple

import typer
import typer.core
import typer.main

from reconciler import errors
from reconciler.cli import exit_codes

PROGRAM = "reconciler"
_INTERRUPTED = 130


class _Place(NamedTuple):
    module: str
    summary: str


COMMANDS = {
    "demo": _Place("demo.command", "Play the whole story in a temporary folder, with real keys and the real daemon."),
    "init": _Place("initialising", "Make a repository skeleton, its policy, the log's key and reconciler.yaml."),
    "run": _Place("running", "Run the daemon."),
    "once": _Place("running", "Make one full pass; exit with what it found."),
    "get": _Place(
        "reading",
        "List targets, revisions, deployments, gates, drift, freezes, obligations, approvals; show the status.",
    ),
    "diff": _Place("reading", "Look at a target now: wanted against live."),
    "history": _Place("reading", "Everything that happened to a target."),
    "trace": _Place("reading", "From a resource back to its commit and its people."),
    "verify": _Place("verifying", "Judge what is not yet accepted, or a head that is not yet merged."),
    "plan": _Place("planning", "What merging a head would write."),
    "gates": _Place("planning", "Run the gates on a head."),
    "approve": _Place("approving", "Read a change, then sign an approval of it."),
    "emergency": _Place(
        "emergencies", "Break the glass: let a head in without the usual approvals, reviewed afterwards."
    ),
    "review": _Place("reviews", "Look at what an emergency let in, then sign that you did."),
    "merge": _Place("merging", "Make the signed merge of a head."),
    "recover": _Place("recovering", "Prepare the merge that gets a blocked history going again."),
    "suspend": _Place("operating", "Leave a target alone until it is resumed."),
    "resume": _Place("operating", "End a suspension."),
    "reconcile": _Place("operating", "Look now, and try again what failed here."),
    "rollback": _Place("operating", "Prepare the revert of a deployment, or pin the state before it at once."),
    "target": _Place("operating", "Drop a target that is released."),
    "audit": _Place("auditing", "Query, show and verify the audit log."),
    "policy": _Place("explaining", "Lint the approval policy, explain it, try it on cases."),
    "schema": _Place("schema", "Print JSON Schemas."),
    "completion": _Place("completing", "Print the completion script of a shell."),
}


class _Commands(typer.core.TyperGroup):
    """Knows its commands by name and summary alone, so that --help loads none of them."""

    def list_commands(self, ctx: Any) -> list[str]:  # noqa: ARG002 - typer's signature
        return list(COMMANDS)

    def get_command(self, ctx: Any, cmd_name: str) -> Any:  # noqa: ARG002 - typer's signature
        place = COMMANDS.get(cmd_name)
        if place is None:
            return None
        module = importlib.import_module(f"reconciler.cli.{place.module}")
        return typer.main.get_group(module.app).commands[cmd_name]

    def format_commands(self, ctx: Any, formatter: Any) -> None:  # noqa: ARG002 - typer's signature
        with formatter.section("Commands"):
            formatter.write_dl([(name, place.summary) for name, place in COMMANDS.items()])

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        """typer would load every command to suggest a name."""
        if args and args[0] not in COMMANDS and not args[0].startswith("-"):
            import difflib

            near = difflib.get_close_matches(args[0], COMMANDS, n=1)
            hint = f" Did you mean {near[0]!r}?" if near else ""
            ctx.fail(f"No such command {args[0]!r}.{hint}")
        return super().resolve_command(ctx, args)


app = typer.Typer(cls=_Commands, no_args_is_help=True, add_completion=False, rich_markup_mode=None)


def _show_version(asked: bool) -> None:  # noqa: FBT001 - typer calls it so
    if asked:
        import importlib.metadata

        print(importlib.metadata.version(PROGRAM))  # noqa: T201 - see _say
        raise typer.Exit


@app.callback()
def _root(
    *,
    version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Say which this is.")
    ] = False,
) -> None:
    """Signed and approved merges converge every target, provably."""


def run(arguments: Sequence[str]) -> int:
    """Run one command; return its exit code. Errors are printed to stderr: what, where, how to fix; never a traceback."""
    try:
        if f"_{PROGRAM.upper()}_COMPLETE" in os.environ:
            _know_shells()
        command = typer.main.get_command(app)
        returned = command.main(args=list(arguments), prog_name=PROGRAM, standalone_mode=False)
    except errors.ReconcilerError as exc:
        _complain(exc)
        return exit_codes.of_error(exc)
    except KeyboardInterrupt:
        return _INTERRUPTED
    except BrokenPipeError:  # Whoever read our output has had enough.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return exit_codes.FINE
    except Exception as exc:  # noqa: BLE001 - the end of the process: 70 and a sentence, never a traceback
        return _other(exc)
    return returned if isinstance(returned, int) else exit_codes.FINE


def _know_shells() -> None:
    """A shell asks what to complete; typer registers how to answer only where it installs scripts itself."""
    from typer import _completion_classes

    _completion_classes.completion_init()


def main() -> None:
    collect_seldom()
    sys.exit(run(sys.argv[1:]))


def collect_seldom() -> None:
    """Look for cycles after 20,000 new objects, not after 700.

    What we judge and keep are values that hold no cycles, and many: walking them all so often was a third of judging.
    """
    gc.set_threshold(20_000, 50, 100)


def _complain(exc: errors.ReconcilerError) -> None:
    from reconciler import redact

    parts = (("error", exc.message), ("code", exc.code), ("where", exc.where), ("fix", exc.fix))
    for name, text in parts:
        if text:
            _say(f"{name}: {redact.text(text)}")


def _say(text: str) -> None:
    print(text, file=sys.stderr)  # noqa: T201 - importing anything that prints would cost time


def _other(exc: Exception) -> int:
    """What typer raises for a wrong command line carries its own text; anything else is a defect of ours."""
    if isinstance(exc, typer.Abort):
        _say("nothing was done")
        return exit_codes.USAGE
    show = getattr(exc, "show", None)
    if callable(show):
        show()
        return exit_codes.USAGE
    if isinstance(exc, OSError) and exc.filename:
        _say(f"error: {exc.strerror}\nwhere: {exc.filename}")
        return exit_codes.USAGE
    _say(f"error: internal: {type(exc).__name__}: {exc}")
    _say("fix: report it with the command line; _RECONCILER_TRACEBACK=1 shows where it happened")
    if os.environ.get("_RECONCILER_TRACEBACK"):
        raise exc
    return exit_codes.INTERNAL
