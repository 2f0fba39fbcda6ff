"""What a policy asks of a change that nobody has made yet: to explain it to people, and to test a policy by cases. Pure.

Cases stand beside the policy, in policies/approval_test.yaml:

    apiVersion: reconciler/v1
    kind: ApprovalPolicyTest
    cases:
      - name: production needs two of sre
        change: {paths: [targets/ledger/resources.yaml], environments: [prod], types: [memory], author: alice}
        approvals: [bob, grace]
        expect: accept
        rules: [base, prod]
      - name: one of emergency may break the glass
        change: {paths: [targets/ledger/resources.yaml], environments: [prod], types: [memory], author: alice}
        emergencies: [carol]
        expect: accept
        waivers: [{gate: opa, by: [carol], expect: granted}]

Signatures, keys, incidents and times are not tried here: these are `verify`'s.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Annotated, Literal

import pydantic

from reconciler import documents, errors, model, strict_yaml
from reconciler.admission import effect, emergency, facts, policy, slots, waiving

TEST_PATH = "policies/approval_test.yaml"


class Change(documents.Camel):
    """What would change. Environments, types and hazards are of the targets concerned; `merger` signs the merge."""

    paths: tuple[documents.NonEmpty, ...] = ()
    environments: tuple[documents.NonEmpty, ...] = ()
    types: tuple[documents.NonEmpty, ...] = ()
    hazards: tuple[documents.NonEmpty, ...] = ()
    author: str = ""
    merger: str = ""


class Waiver(documents.Camel):
    """People who answer for a finding of this gate."""

    gate: documents.NonEmpty
    by: tuple[documents.NonEmpty, ...] = ()
    expect: Literal["granted", "refused"]


class Case(documents.Camel):
    """`emergencies`: who breaks the glass for it; `spent`: how many emergencies were accepted in the week before."""

    name: documents.NonEmpty
    change: Change
    approvals: tuple[documents.NonEmpty, ...] = ()
    emergencies: tuple[documents.NonEmpty, ...] = ()
    spent: Annotated[int, pydantic.Field(strict=True, ge=0)] = 0
    waivers: tuple[Waiver, ...] = ()
    expect: Literal["accept", "hold"]
    rules: tuple[documents.NonEmpty, ...] | None = None  # exactly those that apply
    codes: tuple[documents.NonEmpty, ...] = ()  # all of these are among the reasons


class CaseFile(documents.Camel):
    api_version: Literal["reconciler/v1"]
    kind: Literal["ApprovalPolicyTest"]
    cases: Annotated[tuple[Case, ...], pydantic.Field(min_length=1)]


@dataclass(frozen=True)
class Asked:
    """The rules that apply, and the slots that they ask for together."""

    hits: tuple[slots.Hit, ...]
    slots: tuple[slots.Asked, ...]
    mergers: frozenset[str] = frozenset()

    @property
    def rules(self) -> tuple[str, ...]:
        return tuple(sorted(hit.rule.id for hit in self.hits))


def ask(
    rules: policy.Policy,
    paths: tuple[bytes, ...],
    concerns: Mapping[bytes, facts.Concern],
    *,
    mergers: frozenset[str] = frozenset(),
) -> Asked:
    """`concerns`: by folder of each target that holds one of these paths."""
    folders = tuple(sorted({folder for path in paths if (folder := effect.folder_of(path))}))
    done = effect.Effect(model.Digest(""), tuple(sorted(paths)), folders, {}, None)
    hits = slots.hits(rules, done, concerns)
    return Asked(hits, slots.ask(rules, hits, mergers), mergers)


def able(rules: policy.Policy, asked: slots.Asked, author: str = "") -> tuple[str, ...]:
    """Who may fill a slot: members with a key that approves, without the author and whom `sod` bars."""
    people = asked.members - asked.barred - {author}
    return tuple(sorted(name for name in people if any("approve" in key.use for key in rules.people[name].keys)))


def instead(rules: policy.Policy, paths: tuple[bytes, ...], asked: Asked, *, spent: int = 0) -> Asked | str:
    """What an emergency asks for in place of these rules; or why nobody may break the glass for these paths."""
    guarded = any(path.startswith(b"policies/") for path in paths)
    why = emergency.unavailable(emergency.Glass(rules.emergency, guarded=guarded, spent=spent))
    if why or rules.emergency is None:
        return why
    hits = emergency.stand_in(rules.emergency, asked.hits, tuple(sorted(paths)))
    return Asked(hits, slots.ask(rules, hits, asked.mergers), asked.mergers)


def run(rules: policy.Policy, case: Case) -> model.ValidationResult:
    """What is not as the case says; empty where it holds."""
    change = case.change
    if unknown := sorted(_people(case) - rules.people.keys() - rules.robots.keys()):
        return (_reason(case, f"{', '.join(unknown)}: nobody of this name in the policy"),)
    paths = tuple(path.removeprefix("/").encode() for path in change.paths)
    asked = ask(rules, paths, _concerns(change, paths), mergers=frozenset({change.merger} - {""}))
    asked, reasons = _judge(rules, paths, asked, case)
    codes = {reason.code for reason in reasons}
    found: list[model.Reason] = []
    if (case.expect == "accept") == bool(reasons):
        said = "; ".join(f"{reason.code}: {reason.message}" for reason in reasons) or "every slot is filled"
        found.append(_reason(case, f"expected {case.expect}, but {said}"))
    if case.rules is not None and set(case.rules) != set(asked.rules):
        found.append(_reason(case, f"the rules that apply are {', '.join(asked.rules) or 'none'}"))
    if missing := sorted(set(case.codes) - codes):
        found.append(_reason(case, f"not among the reasons: {', '.join(missing)}"))
    return (*found, *_waivers(rules, case))


def read_cases(blob: bytes, where: str = TEST_PATH) -> tuple[Case, ...]:
    """Raises: ConfigError(parse | policy_test) with file and line."""
    located = strict_yaml.parse(blob, where)
    document = strict_yaml.mapping(located, where)
    try:
        return CaseFile.model_validate(document).cases
    except ValueError as exc:
        found = strict_yaml.config_error(exc, located, where, schema=CaseFile)
        fix = (
            found.fix
            or "name, change and expect stand in every case; paths, environments, types and author in a change"
        )
        raise errors.ConfigError("policy_test", found.message, where=found.where, fix=fix) from exc


def _people(case: Case) -> set[str]:
    answering = (person for waiver in case.waivers for person in waiver.by)
    return {*case.approvals, *case.emergencies, *answering, case.change.author, case.change.merger} - {""}


def _concerns(change: Change, paths: tuple[bytes, ...]) -> dict[bytes, facts.Concern]:
    """All targets alike. What is not said counts as every environment and every type, as a document that cannot be read."""
    concern = facts.Concern(
        environments=frozenset(change.environments) or facts.EVERY,
        types=frozenset(change.types) or facts.EVERY,
        hazards=frozenset(change.hazards),
    )
    folders = {effect.folder_of(path) for path in paths} - {b"", b"policies"}
    return dict.fromkeys(sorted(folders), concern)


def _judge(
    rules: policy.Policy, paths: tuple[bytes, ...], asked: Asked, case: Case
) -> tuple[Asked, model.ValidationResult]:
    """As the judge would, for statements that are good in every other way: the rules that decided, and what is missing."""
    counted = _who_count(rules, asked, case.approvals, case)
    filled = slots.fill(asked.slots, counted)
    if not filled.missing:
        return asked, ()
    own = case.change.author in {*case.approvals, *case.emergencies}
    excluded = (_reason(case, "approves their own change", "self_approval"),) if own else ()
    nobody = () if counted else (_reason(case, "nobody's approval counts", "no_approval"),)
    usual = (*nobody, *filled.missing, *excluded)
    if not case.emergencies:
        return asked, usual
    broken = instead(rules, paths, asked, spent=case.spent)
    if isinstance(broken, str):
        return asked, (*usual, _reason(case, broken, "emergency_scope"))
    breakers = _who_count(rules, broken, case.emergencies, case)
    missing = slots.fill(broken.slots, counted, breakers).missing
    return (asked, (*usual, *missing)) if missing else (broken, ())


def _waivers(rules: policy.Policy, case: Case) -> Iterator[model.Reason]:
    mergers = frozenset({case.change.merger} - {""})
    asked = Asked((), waiving.ask(rules, mergers), mergers)
    for waiver in case.waivers:
        why = f"the policy lets nobody answer for a finding of `{waiver.gate}`"
        if waiving.may_be_waived(rules, waiver.gate):
            missing = slots.fill(asked.slots, _who_count(rules, asked, waiver.by, case)).missing
            why = "; ".join(reason.message for reason in missing)
        if (waiver.expect == "granted") == bool(why):
            said = why or f"enough of {', '.join(waiver.by)} may answer for it"
            yield _reason(case, f"expected a waiver of {waiver.gate} to be {waiver.expect}, but {said}")


def _who_count(rules: policy.Policy, asked: Asked, said: tuple[str, ...], case: Case) -> list[str]:
    may = {name for each in asked.slots for name in able(rules, each, case.change.author)}
    return sorted(set(said) & may)


def _reason(case: Case, message: str, code: str = "policy_test") -> model.Reason:
    return model.Reason(code=code, message=message, where=case.name)
