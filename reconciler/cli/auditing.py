"""`audit query|show|verify`: the records as they are kept."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from pydantic import JsonValue

from reconciler import errors
from reconciler.cli import exit_codes, keeping, options, printing, session

app = typer.Typer(rich_markup_mode=None)
audit = typer.Typer(help="Read the audit log.", no_args_is_help=True, rich_markup_mode=None)
app.add_typer(audit, name="audit")
audit.command("rotate-key")(keeping.rotate_key)
audit.command("checkpoint")(keeping.checkpoint)


@audit.command("query")
def query(  # noqa: PLR0913 - one option for each way to ask
    *,
    target: Annotated[str, typer.Option("--target")] = "",
    deployment: Annotated[str, typer.Option("--deployment")] = "",
    revision: Annotated[str, typer.Option("--revision", "--commit", help="Its object id, or how that begins.")] = "",
    person: Annotated[
        str, typer.Option("--person", help="Author, approver, merger; an operator as shown: 'root (uid 0)'.")
    ] = "",
    kind: Annotated[str, typer.Option("--type", help="decision, intent, outcome, ...; several with commas.")] = "",
    verdict: Annotated[
        str,
        typer.Option("--verdict", help="ACCEPT, HOLD, REJECT, HALT; PASS, FAIL, ERROR; SUCCEEDED, FAILED, SUPERSEDED."),
    ] = "",
    path: Annotated[str, typer.Option("--path", help="A changed path; everything below it where it ends with /.")] = "",
    rule: Annotated[str, typer.Option("--rule")] = "",
    gate: Annotated[str, typer.Option("--gate")] = "",
    ticket: Annotated[str, typer.Option("--ticket")] = "",
    since: Annotated[str, typer.Option("--since", help="2026-11-24T00:00:00Z")] = "",
    until: Annotated[str, typer.Option("--until")] = "",
    after: Annotated[str, typer.Option("--after", help="A seq: where the page before ended.")] = "",
    limit: Annotated[int, typer.Option("--limit", min=1)] = 500,
    config_file: options.ConfigOption = None,
    output: options.OutputOption = options.Output.TABLE,
) -> int:
    """The records about all of these, oldest first."""
    asked = {
        "target": target, "deployment": deployment, "revision": revision, "person": person, "type": kind,
        "verdict": verdict, "path": path, "rule": rule, "gate": gate, "ticket": ticket,
        "since": since, "until": until, "after": after, "limit": str(limit),
    }  # fmt: skip
    with session.asking(session.configuration(config_file)) as ask:
        document = ask("GET", "/audit", {name: value for name, value in asked.items() if value}, None)
    printing.emit(document, output, _records)
    return exit_codes.FINE


@audit.command("show")
def show(
    seq: Annotated[str, typer.Argument(metavar="SEQ")],
    config_file: options.ConfigOption = None,
    output: options.OutputOption = options.Output.YAML,
) -> int:
    """One record."""
    with session.asking(session.configuration(config_file)) as ask:
        document = ask("GET", f"/audit/{seq}", None, None)
    printing.emit(document, output)
    return exit_codes.FINE


@audit.command("verify")
def verify(
    *,
    db: Annotated[Path | None, typer.Option("--db", help="A copy of the log: audit.db.")] = None,
    public_key: Annotated[Path | None, typer.Option("--public-key", help="Of the key that signs the log.")] = None,
    origin: Annotated[str, typer.Option("--origin", help="The log's name: reconciler/INSTALLATION.")] = "",
    checkpoint: Annotated[
        list[Path],
        typer.Option(
            "--checkpoint",
            help="One that was kept elsewhere; may be repeated.",
            default_factory=list,
            show_default=False,
        ),
    ],
    config_file: options.ConfigOption = None,
    output: options.OutputOption = options.Output.TABLE,
) -> int:
    """Follow the whole log, record by record. Exits with 7 and names the first record that does not hold."""
    from reconciler.audit import signing, storage, verification

    if db is None:
        told = session.configuration(config_file)
        session.check_recorded(told)
        place, public = told.store_url, signing.FileSigner.read(told.store.signing_key).public
        name = origin or f"reconciler/{told.installation}"
    else:
        place, public, name = _copy(db, public_key, origin)
    engine = storage.make_engine(place)
    try:
        report = verification.verify(engine, public, name, anchored=[keeping.read_note(path) for path in checkpoint])
    finally:
        engine.dispose()
    document: dict[str, JsonValue] = {"apiVersion": "reconciler/v1", "kind": "Verification", "verified": report.good}
    document |= report.model_dump(mode="json")
    printing.emit(document, output, _report)
    return exit_codes.FINE if report.good else exit_codes.BROKEN


def _copy(db: Path, public_key: Path | None, origin: str) -> tuple[str, bytes, str]:
    from reconciler.audit import signing

    if public_key is None or not origin:
        fix = "the key and the name come from elsewhere than the copy: --public-key FILE --origin reconciler/NAME"
        raise errors.ConfigError("usage", "a copy does not say by whom it is signed", where="--db", fix=fix)
    if not db.is_file():
        raise errors.ConfigError("no_log", "no such file", where=str(db))
    return f"sqlite:///{db.absolute()}", signing.read_public(public_key), origin


def _report(document: printing.Document) -> None:
    problems = document.get("problems")
    for problem in problems if isinstance(problems, list) else []:
        if isinstance(problem, dict):
            printing.out(f"BROKEN {problem['where']}: {problem['code']}: {problem['message']}")
    handed_over = document.get("handed_over")
    for reason in handed_over if isinstance(handed_over, list) else []:
        if isinstance(reason, dict):
            printing.out(f"{reason['where']}: {reason['code']}: {reason['message']}")
    state = "verified" if document.get("verified") else "NOT verified"
    printing.out(
        f"{state}: {document.get('size')} records, {document.get('checkpoints')} checkpoints, {document.get('evidence')} pieces of evidence"
    )
    printing.out(f"root {document.get('root')}")
    if document.get("caches"):
        printing.out(f"caches that differ from the log: {printing.text(document.get('caches'))}")


def _records(document: printing.Document) -> None:
    rows = []
    for entry in printing.items(document):
        said = _object(entry.get("event"))
        version = _object(said.get("wanted") or said.get("version") or said.get("pin"))
        about = [said.get(name) or None for name in ("verb", "target", "deployment", "verdict", "closed", "code")]
        if "passed" in said:
            about.append("gates passed" if said["passed"] else "gates did not pass")
        rows.append([
            printing.text(entry.get("seq")), printing.text(entry.get("at")), printing.text(said.get("type")),
            printing.short(said.get("revision") or said.get("subject") or version.get("revision")),
            " ".join(printing.text(value) for value in about if value is not None), printing.text(entry.get("actor")),
        ])  # fmt: skip
    printing.grid(["SEQ", "AT", "TYPE", "REVISION", "ABOUT", "ACTOR"], rows)
    if not rows:
        printing.say("no record is about all of these")
    if document.get("next") is not None:
        printing.say(f"more: --after {document['next']}")


def _object(value: JsonValue) -> dict[str, JsonValue]:
    return value if isinstance(value, dict) else {}
