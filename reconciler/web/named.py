"""What a request names: made whole where it was abbreviated, and refused where nothing has that name.

A name that nobody has would find nothing, and read like innocence: an auditor who misspelt a person learns so.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Mapping
from typing import NamedTuple

from reconciler import errors, model
from reconciler.audit import record, state
from reconciler.views import audit, lineage
from reconciler.web.application import Application

SHORTEST = 4  # digits of an abbreviated object id, as git has it
_LISTED = 3


class _Kind(NamedTuple):
    what: str
    code: str
    fix: str


_KINDS: Mapping[str, _Kind] = {
    "target": _Kind("target", "no_target", "see: reconciler get targets"),
    "deployment": _Kind("deployment", "no_deployment", "see: reconciler get deployments"),
    "person": _Kind("person", "no_person", "see `people` in policies/approval.yaml, or: reconciler get revisions"),
    "rule": _Kind("rule", "no_rule", "see `rules` in policies/approval.yaml"),
    "gate": _Kind("gate", "no_gate", "see: reconciler get gates"),
}


def terms(application: Application, asked: Mapping[str, str]) -> dict[str, str]:
    """The parameters of a query, its revision in full.

    Raises: ConfigError(no_revision | ambiguous | no_target | no_deployment | no_person | no_rule | no_gate).
    """
    found = dict(asked)
    for kind in _KINDS.keys() & {name for name, value in asked.items() if value}:
        _check(application, kind, asked[kind])
    if asked.get("revision"):
        found["revision"] = revision(application, asked["revision"])
    return found


def target(application: Application, name: str) -> state.Target:
    """One that the log knows now.

    Raises: ConfigError(no_target), with its new name where it was renamed.
    """
    known = application.state().targets
    if name in known:
        return known[name]
    renamed = lineage.given_away(name, lambda each: clearances(application, each))
    if renamed is not None:
        now = lineage.goes_on_as(renamed, lambda each: clearances(application, each))
        said = f"{name} was renamed by merge {renamed.revision[:12]} (record {renamed.seq}): it is {now} now"
        raise errors.ConfigError("no_target", said, where=name, fix=f"name {now} instead")
    kind = _KINDS["target"]
    raise errors.ConfigError(
        kind.code,
        "the log knows no such target",
        where=name,
        fix=_fix(kind, name, (*known, *application.values("target"))),
    )


def clearances(application: Application, name: str) -> Iterable[record.Record]:
    """Those that concern a target of this name: a renaming takes effect with one."""
    return application.records(audit.Query(target=name, types=frozenset({"clearance"})))


def revision(application: Application, text: str) -> model.Oid:
    """The object id that begins so, of all that the log has a record of.

    Raises: ConfigError(no_revision | ambiguous).
    """
    digits = text.lower()
    if not re.fullmatch(r"[0-9a-f]+|sha256:[0-9a-f]+", digits):
        said = "an object id is expected, or its beginning: the log knows no branches"
        raise errors.ConfigError("no_revision", said, where=text, fix=f"git rev-parse {text}")
    if len(digits) < SHORTEST:
        said = f"at least {SHORTEST} digits of an object id are expected"
        raise errors.ConfigError("no_revision", said, where=text, fix="see: reconciler get revisions")
    found = application.values("revision", digits, _LISTED + 1)
    if digits in found or len(found) == 1:
        return model.Oid(found[0])
    if not found:
        said = "the log has no record of such a revision"
        fix = "see: reconciler get revisions; a commit that was never fetched from the watched branch is in no record"
        raise errors.ConfigError("no_revision", said, where=text, fix=fix)
    listed = ", ".join(found[:_LISTED]) + (", ..." if len(found) > _LISTED else "")
    raise errors.ConfigError(
        "ambiguous", f"more than one revision begins so: {listed}", where=text, fix="give more digits"
    )


def _check(application: Application, name: str, value: str) -> None:
    if _recorded(application, name, value):
        return
    in_force = _in_force(application, name)
    if value in in_force:
        return  # There is such a one; nothing was recorded of it so far, and an empty answer says so.
    kind = _KINDS[name]
    said = f"neither the log nor the policy in force knows such a {kind.what}"
    raise errors.ConfigError(
        kind.code, said, where=value, fix=_fix(kind, value, {*application.values(name), *in_force})
    )


def _in_force(application: Application, kind: str) -> frozenset[str]:
    known = application.state()
    if kind == "target":
        return frozenset(known.targets)
    if known.tip is None:
        return frozenset()  # Nothing was accepted yet, no policy either.
    rules = application.rules()
    match kind:
        case "person":
            return frozenset((*rules.people, *rules.robots))
        case "rule":
            return frozenset(rule.id for rule in (*rules.rules, rules.meta))
        case "gate":
            return frozenset(name for names in (*rules.gates.required.values(), rules.gates.critical) for name in names)
        case _:
            return frozenset()


def _recorded(application: Application, kind: str, value: str) -> bool:
    # A user of this machine is recorded with the uid, and found without it: see `audit.query`.
    users = application.values(kind, f"{value} (uid ", 1) if kind == "person" else ()
    return bool(users) or value in application.values(kind, value, 1)


def _fix(kind: _Kind, value: str, known: Iterable[str]) -> str:
    near = difflib.get_close_matches(value, known, n=_LISTED)
    begins = [each for each in known if each.startswith(value)][:_LISTED]
    meant = list(dict.fromkeys((*begins, *near)))[:_LISTED]
    asked = f"did you mean {' or '.join(repr(each) for each in meant)}? " if meant else ""
    return asked + kind.fix
