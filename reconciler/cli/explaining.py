"""`policy explain` and `policy test`, beside `policy lint`: which people a path needs, and whether the policy means what it should."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer
from pydantic import JsonValue

from reconciler import errors, model
from reconciler.admission import effect, facts, slots, trying, waiving
from reconciler.admission import policy as policies
from reconciler.cli import clone, durations, exit_codes, options, printing
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
    """Say which rules a change of these paths meets and whom it needs; what may serve instead, and what is closed now."""
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
    document = _document(rules, asked, author)
    document["instead"] = [*_instead(rules, raw, asked, author)]
    document["waits"] = _waits(rules, concerns, datetime.now(UTC))
    printing.emit(document, output, _show)
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
    needed: list[JsonValue] = [_slot(rules, each, author) for each in asked.slots]
    return {"apiVersion": "reconciler/v1", "kind": "PolicyExplanation", "rules": hits, "slots": needed}


def _slot(rules: policies.Policy, asked: slots.Asked, author: str) -> JsonValue:
    may = trying.able(rules, asked, author)
    return {
        "need": str(asked.slot),
        "count": asked.slot.count,
        "may": list(may),
        "enough": len(may) >= asked.slot.count,
    }


def _instead(rules: policies.Policy, paths: tuple[bytes, ...], asked: trying.Asked, author: str) -> Iterator[JsonValue]:
    """What may serve in place of the usual: of approvals a return or an emergency, of a gate's finding a waiver."""
    if (rollback := rules.rollback) and not any(path.startswith(b"policies/") for path in paths):
        within = durations.told(rollback.within)
        limits = f"targets only, back to a state that was confirmed within {within}"
        yield _way(rules, "rollback", limits, rollback.need, author)
    broken, rule = trying.instead(rules, paths, asked), rules.emergency
    if isinstance(broken, str) or rule is None:
        yield {"way": "emergency", "refused": broken if isinstance(broken, str) else ""}
    else:
        limits = f"for {durations.told(rule.max_duration)} at most, {rule.max_per_week} a week"
        limits += f", with {' and '.join(rule.requires)}" if rule.requires else ""
        made: list[JsonValue] = [_slot(rules, each, author) for each in broken.slots]
        yield {"way": "emergency", "limits": limits, "slots": made}
        within = durations.told(rule.review.within)
        yield _way(rules, "review", f"of an emergency, by other people, within {within}", rule.review.need, author)
    if (waive := rules.gates.waive) is None:
        yield {"way": "waiver", "refused": "the policy lets nobody answer for a finding of a gate"}
    else:
        never = ", ".join(sorted({*waiving.NEVER, *rules.gates.critical}))
        limits = f"of a finding, for {durations.told(waive.max_duration)} at most; never of {never}"
        yield _way(rules, "waiver", limits, waive.need, author)


def _way(
    rules: policies.Policy, way: str, limits: str, need: tuple[policies.Slot, ...], author: str
) -> dict[str, JsonValue]:
    hit = slots.Hit(policies.Rule(id=way, paths=("/**",), need=need), ())
    made: list[JsonValue] = [_slot(rules, each, author) for each in slots.ask(rules, (hit,), frozenset())]
    return {"way": way, "limits": limits, "slots": made}


def _waits(rules: policies.Policy, concerns: Mapping[bytes, facts.Concern], now: datetime) -> JsonValue:
    """Where the environments are known: what is closed now, and whether an emergency gets past it."""
    names = frozenset(name for each in concerns.values() for name in each.environments or ())
    found: list[JsonValue] = []
    for name in sorted(names):
        if closed := rules.deferred(name, now):
            strict = rules.deferred(name, now, emergency=True) is not None
            until = model.print_time(closed[1])
            found.append({"environment": name, "message": closed[0].message, "until": until, "emergencyWaits": strict})
    return found


def _rule(hit: slots.Hit) -> JsonValue:
    paths: list[JsonValue] = [path.decode(errors="backslashreplace") for path in hit.paths]
    need: list[JsonValue] = [str(slot) for slot in hit.rule.need]
    return {"id": hit.rule.id, "paths": paths, "need": need}


def _show(document: printing.Document) -> None:
    for each in _listed(document, "rules"):
        printing.out(f"rule {each.get('id')}: {printing.text(each.get('need'))} for {printing.text(each.get('paths'))}")
    for each in _listed(document, "slots"):
        printing.out(f"needs {_asked(each)}")
    for way in _listed(document, "instead"):
        if refused := way.get("refused"):
            printing.out(f"{way.get('way')}: {refused}")
        for each in _listed(way, "slots"):
            printing.out(f"{way.get('way')} {_asked(each)}; {way.get('limits')}")
    for each in _listed(document, "waits"):
        who = "even for an emergency" if each.get("emergencyWaits") else "not for an emergency"
        printing.out(f"closed: {each.get('message')}: {who}")


def _asked(slot: Mapping[str, JsonValue]) -> str:
    short = "" if slot.get("enough") else "  (not enough people)"
    return f"{slot.get('need')}: {printing.text(slot.get('may') or _NOBODY)}{short}"


def _show_tests(document: printing.Document) -> None:
    for each in printing.items(document):
        printing.out(f"{'holds' if each.get('holds') else 'FAILS'}: {each.get('name')}")
        for reason in _listed(each, "reasons"):
            printing.out(f"  {reason.get('message')}")


def _listed(document: Mapping[str, JsonValue], name: str) -> list[dict[str, JsonValue]]:
    found = document.get(name)
    return [each for each in found if isinstance(each, dict)] if isinstance(found, list) else []
