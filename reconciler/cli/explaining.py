"""`policy explain` and `policy test`, beside `policy lint`: which people a path needs, and whether the policy means what it should."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated

import typer
from pydantic import JsonValue

from reconciler import errors, model
from reconciler.admission import effect, facts, slots, trying
from reconciler.admission import policy as policies
from reconciler.cli import clone, exit_codes, options, printing
from reconciler.cli import policies as linting

app = linting.app
_NOBODY = "nobody"


@linting.policy.command("explain")
def explain(
    paths: Annotated[list[str], typer.Argument(metavar="PATH...")],
    *,
    author: Annotated[str, typer.Option("--author", help="Who makes the change, and so does not approve it.")] = "",
    environment: Annotated[list[str], typer.Option("--environment", help="Else read from target.yaml.")] = [],  # noqa: B006 - typer copies it
    kind: Annotated[list[str], typer.Option("--type", help="Else read from target.yaml.")] = [],  # noqa: B006 - typer copies it
    file: Annotated[Path | None, typer.Option("--file", help="Another policy than the one in force.")] = None,
    place: options.RepositoryOption = options.HERE,
    remote: options.RemoteOption = "origin",
    ref: options.RefOption = "",
    output: options.OutputOption = options.Output.TABLE,
) -> int:
    """Say which rules a change of these paths meets, and whom it needs."""
    raw = tuple(path.removeprefix("/").encode() for path in paths)
    said = _Said(frozenset(environment) or facts.EVERY, frozenset(kind) or facts.EVERY)
    if file is not None:
        rules, concerns = policies.parse_policy(_read(file)), said.all(raw)
    else:
        with clone.opened(clone.Place(place, remote, ref)) as here:
            rules, concerns = here.rules, said.over(_documents(here, raw), raw)
    if author and author not in rules.people:
        raise errors.ConfigError("usage", f"the policy knows no {author!r}", fix=f"one of {', '.join(rules.people)}")
    asked = trying.ask(rules, raw, concerns)
    printing.emit(_document(rules, asked, author), output, _show)
    return exit_codes.FINE


@linting.policy.command("test")
def try_cases(
    cases_file: Annotated[Path, typer.Argument(metavar="[CASES]")] = Path(trying.TEST_PATH),
    *,
    file: Annotated[
        Path | None, typer.Option("--file", help="The policy; else approval.yaml beside the cases.")
    ] = None,
    output: options.OutputOption = options.Output.TABLE,
) -> int:
    """Try the policy on the cases that are kept beside it. Exits with 2 where one does not hold."""
    rules = policies.parse_policy(_read(file or cases_file.with_name(Path(policies.PATH).name)))
    cases = trying.read_cases(_read(cases_file), str(cases_file))
    items: list[JsonValue] = [
        {"name": case.name, "holds": not found, "reasons": [reason.model_dump() for reason in found]}
        for case in cases
        for found in [trying.run(rules, case)]
    ]
    document: dict[str, JsonValue] = {"apiVersion": "reconciler/v1", "kind": "PolicyTestList", "items": items}
    printing.emit(document, output, _show_tests)
    failed = any(not each["holds"] for each in printing.items(document))
    return exit_codes.USAGE if failed else exit_codes.FINE


class _Said:
    """What the person said of every target; what they did not say is read from the documents, or counts as every one."""

    def __init__(self, environments: facts.Names, types: facts.Names) -> None:
        self._environments, self._types = environments, types

    def all(self, paths: tuple[bytes, ...]) -> dict[bytes, facts.Concern]:
        return self.over({}, paths)

    def over(self, read: Mapping[bytes, facts.Concern], paths: tuple[bytes, ...]) -> dict[bytes, facts.Concern]:
        folders = {effect.folder_of(path) for path in paths} - {b"", b"policies"}
        return {folder: self._of(read.get(folder)) for folder in sorted(folders)}

    def _of(self, read: facts.Concern | None) -> facts.Concern:
        known = read or facts.Concern(facts.EVERY, facts.EVERY, frozenset())
        return facts.Concern(
            environments=known.environments if self._environments is facts.EVERY else self._environments,
            types=known.types if self._types is facts.EVERY else self._types,
            hazards=frozenset(),
        )


def _documents(here: clone.Clone, paths: tuple[bytes, ...]) -> Mapping[bytes, facts.Concern]:
    """Of the targets that are there in the policy's own commit."""
    tree = here.repository.tree(here.base)
    known = tuple(path for path in paths if effect.document_of(effect.folder_of(path)) in tree)
    folders = tuple(sorted({effect.folder_of(path) for path in known} - {b"", b"policies"}))
    done = effect.Effect(model.Digest(""), known, folders, {}, None)
    return facts.concerns(here.repository, tree, tree, done)[0]


def _read(file: Path) -> bytes:
    try:
        return file.read_bytes()
    except OSError as exc:
        raise errors.ConfigError("policy", "it cannot be read", where=str(file), fix="name the file") from exc


def _document(rules: policies.Policy, asked: trying.Asked, author: str) -> dict[str, JsonValue]:
    hits: list[JsonValue] = [_rule(hit) for hit in asked.hits]
    needed: list[JsonValue] = []
    for each in asked.slots:
        may = trying.able(rules, each, author)
        needed.append(
            {"need": str(each.slot), "count": each.slot.count, "may": list(may), "enough": len(may) >= each.slot.count}
        )
    return {"apiVersion": "reconciler/v1", "kind": "PolicyExplanation", "rules": hits, "slots": needed}


def _rule(hit: slots.Hit) -> JsonValue:
    paths: list[JsonValue] = [path.decode(errors="backslashreplace") for path in hit.paths]
    need: list[JsonValue] = [str(slot) for slot in hit.rule.need]
    return {"id": hit.rule.id, "paths": paths, "need": need}


def _show(document: printing.Document) -> None:
    for each in _listed(document, "rules"):
        printing.out(f"rule {each.get('id')}: {printing.text(each.get('need'))} for {printing.text(each.get('paths'))}")
    for each in _listed(document, "slots"):
        short = "" if each.get("enough") else "  (not enough people)"
        printing.out(f"needs {each.get('need')}: {printing.text(each.get('may') or _NOBODY)}{short}")


def _show_tests(document: printing.Document) -> None:
    for each in printing.items(document):
        printing.out(f"{'holds' if each.get('holds') else 'FAILS'}: {each.get('name')}")
        for reason in _listed(each, "reasons"):
            printing.out(f"  {reason.get('message')}")


def _listed(document: Mapping[str, JsonValue], name: str) -> list[dict[str, JsonValue]]:
    found = document.get(name)
    return [each for each in found if isinstance(each, dict)] if isinstance(found, list) else []
