"""All that an approver answers for, line by line, before anything is signed (trust.md 3.3).

Not here: what the gates say (`rehearsing.py`), and what changed since they signed last (`since.py`).
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from datetime import datetime

from reconciler import documents, errors, model, ports
from reconciler.admission import brought, commit, effect, policy
from reconciler.audit import record
from reconciler.cli import candidates, changes, clone, printing
from reconciler.daemon import merged

_DIGITS = 12


def describe(here: clone.Clone, found: candidates.Candidate, rules: policy.Policy) -> Iterator[str]:
    decision, judged = found.judged.decision, found.judged
    yield f"repository   {rules.repository.id}"
    yield f"branch       {rules.repository.ref} at {found.base}"
    yield f"head         {found.head}" + (f", merged as {found.commit}" if found.merged else "")
    yield f"effect       {decision.effect or 'not known'}"
    yield f"policy       {rules.digest}"
    if judged.binding:
        yield f"environments {', '.join(judged.binding.environments) or '-'}"
        for oid in judged.binding.skips:
            yield f"passes over  {oid}"
    yield f"targets      {', '.join(decision.targets) or '-'}"
    for each in decision.commits:
        yield f"commit       {each.oid} signed by {each.signer or 'nobody known'}, author {changes.visible(each.author)}"
    yield from _content(here, found)
    for rule in decision.rules:
        yield f"rule         {rule.id}: needs {', '.join(rule.need)}; has {', '.join(rule.got) or 'nobody'}"
    for slot in judged.open:
        yield f"missing      {slot.missing} of {slot.slot}; may: {', '.join(slot.may) or 'nobody'}"
    yield from _excluded(here, found, rules)
    if judged.manual:
        yield "manual merge its content is not git's own merge: --ack-manual-merge says that you read it"
    for reason in decision.reasons:
        yield f"{decision.verdict}         {changes.visible(printing.reason(reason.model_dump()))}"


def consequences(here: clone.Clone, found: candidates.Candidate, rules: policy.Policy, now: datetime) -> Iterator[str]:
    """What the merge acknowledges, and what will wait for a freeze or a window."""
    if found.judged.effect is None:
        return
    repository, before = repository_of(here, found), found.base
    waiting: dict[str, list[str]] = {}
    for name in sorted(found.judged.decision.targets):
        old, new = _read(here.repository, before, name), _read(repository, found.commit, name)
        added = (new.acknowledge if new else frozenset()) - (old.acknowledge if old else frozenset())
        for each in sorted(added, key=lambda a: (a.hazard, a.key)):
            yield f"acknowledges {changes.visible(f'{each.hazard} {each.key} on {name}: {each.reason}')}"
        if new is not None:
            waiting.setdefault(new.desired.environment, []).append(name)
    if any(rule.id == "rollback" for rule in found.judged.decision.rules):
        return  # A return waits for neither.
    for environment in sorted(waiting):
        deferral = rules.deferred(environment, now)
        if deferral is not None:
            yield f"will wait    {', '.join(waiting[environment])}: {deferral[0].message}"


def repository_of(here: clone.Clone, found: candidates.Candidate) -> ports.Repository:
    """One in which the candidate's commit is what the merge leaves behind."""
    return here.repository if found.merged else merged.Merged(here.repository, found.commit, found.base)


def gates(clearance: record.Clearance, rules: policy.Policy) -> Iterator[str]:
    for result in clearance.results:
        critical = " (critical)" if result.gate in rules.gates.critical else ""
        not_run = any(finding.code == "not_run" for finding in result.findings)
        yield f"gate         {'not run here' if not_run else result.outcome}: {result.check}{critical}"
        for finding in result.findings:
            yield f"             {changes.visible(printing.reason(finding.model_dump()))}"
        for each in result.waived:
            until = model.print_time(each.until)
            yield f"             {each.rule} waived by {', '.join(each.people)} until {until}"
    if not clearance.results:
        yield "gate         none: no target is touched"


def _content(here: clone.Clone, found: candidates.Candidate) -> Iterator[str]:
    """The change; and where the merge is not git's own, what its makers put into it besides."""
    if found.judged.effect is None:
        return
    before = here.repository.tree(found.base)
    yield from changes.diff(here.repository, before, found.after, found.judged.effect.paths)
    if found.merged and found.judged.manual:
        yield "by hand      below: from git's own merge to this one"
        own = here.repository.tree(here.repository.attempted_merge(found.base, found.head))
        paths = effect.changed(own, found.after)
        yield from changes.diff(here.repository, own, found.after, paths)


def _excluded(here: clone.Clone, found: candidates.Candidate, rules: policy.Policy) -> Iterator[str]:
    decision = found.judged.decision
    for person in decision.duties.excluded:
        signed = [each.oid[:_DIGITS] for each in decision.commits if each.signer == person]
        named = [each.oid[:_DIGITS] for each in decision.commits if person in _named(here, each.oid, rules)]
        parts = [f"signed {', '.join(signed)}" if signed else "", f"is named in {', '.join(named)}" if named else ""]
        yield f"excluded     {person}: {'; '.join(part for part in parts if part) or 'of a commit of this change'}"
    merger = decision.merge_signature.principal if decision.merge_signature else ""
    if merger in rules.people and merger not in decision.duties.excluded and "merger" in rules.defaults.sod:
        yield f"excluded     {merger}: signed the merge, and `sod` names the merger"


def _named(here: clone.Clone, oid: model.Oid, rules: policy.Policy) -> frozenset[str]:
    parsed = commit.parse_commit(oid, here.repository.commit(oid))
    return frozenset() if isinstance(parsed, model.Reason) else brought.named(parsed, rules)


def _read(repository: ports.Repository, revision: model.Oid, name: str) -> documents.TargetDocument | None:
    with contextlib.suppress(errors.ConfigError):  # The gate `schema` says so.
        return documents.read_target(repository, revision, name)
    return None
