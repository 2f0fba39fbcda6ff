"""What may not stand in an approval policy, although every field of it can be read (trust.md 4.2).

A policy that is in force was linted when it came in; what time alone brings about are warnings.
"""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta

from reconciler import errors, model, strict_yaml
from reconciler.admission import patterns, policy, slots, tree

LONGEST = timedelta(days=397)  # 13 months
SOON = timedelta(days=30)
_LONGEST_TTL_S = 30 * 86400.0
_ADMINS = 2
_MOST_SLOTS = 8  # of one change, that are held against each other


@dataclass(frozen=True)
class Findings:
    errors: model.ValidationResult
    warnings: model.ValidationResult = ()


@dataclass(frozen=True)
class _Terms:
    source_id: str
    source_ref: str
    now: datetime
    production: bool


_Found = Iterator[tuple[strict_yaml.Path, str]]


def lint(
    blob: bytes,
    *,
    source_id: str,
    source_ref: str,
    now: datetime,
    production: bool,
    paths: Iterable[bytes] = (),
) -> Findings:
    """Judge the bytes of `policies/approval.yaml`. `paths`: of the repository, to find patterns that match nothing."""
    try:
        rules = policy.parse_policy(blob)
        located = strict_yaml.parse(blob, policy.PATH)
    except errors.ConfigError as exc:
        return Findings((model.Reason.of(exc),))
    terms = _Terms(source_id, source_ref, now, production)
    checks = (
        _of_source,
        _of_people,
        _of_robots,
        _of_keys,
        _of_names,
        _of_duties,
        _of_rules,
        _of_thresholds,
        _of_slots_together,
        _of_review,
        _of_time,
    )
    found = [each for check in checks for each in check(rules, terms)]
    if production:
        found += _of_production(rules)
    noted = [*_soon(rules, now), *_idle(rules, tuple(paths)), *_tight(rules, terms)]
    return Findings(_reasons(found, located), _reasons(noted, located))


def _reasons(found: Iterable[tuple[strict_yaml.Path, str]], located: strict_yaml.Located) -> model.ValidationResult:
    return tuple(
        model.Reason(code="policy_lint", message=message, where=f"{policy.PATH}:{located.line(('spec', *path))}")
        for path, message in found
    )


def _of_source(rules: policy.Policy, terms: _Terms) -> _Found:
    if rules.repository.id != terms.source_id:
        yield ("repository", "id"), f"the repository is {terms.source_id} to the daemon"
    if rules.repository.ref != terms.source_ref:
        yield ("repository", "ref"), f"the daemon watches {terms.source_ref}"


def _of_people(rules: policy.Policy, _: _Terms) -> _Found:
    for kind, names in (("people", rules.people), ("robots", rules.robots), ("teams", rules.teams)):
        for name in names:
            if not policy.NAME.fullmatch(name):
                yield (kind,), f"{name!r} is no name: letters, digits, `.`, `_` and `-`, no wildcard"
    for name in rules.people.keys() & rules.robots.keys():
        yield ("robots", name), "a person has the same name"
    for name, person in rules.people.items():
        if any(not c.isprintable() for text in (person.name, person.unit, *person.emails) for c in text):
            yield ("people", name), "control characters or newlines"


def _of_robots(rules: policy.Policy, _: _Terms) -> _Found:
    for name, robot in rules.robots.items():
        if "approve" in robot.use:
            yield ("robots", name, "use"), "no robot ever approves"
        if {"merge", "commit"} <= set(robot.use):
            yield ("robots", name, "use"), "one robot may merge or commit, never both"
        if "commit" in robot.use and not robot.paths:
            yield ("robots", name), "a robot that commits needs `paths`, its limits"


def _keys(rules: policy.Policy) -> Iterator[tuple[strict_yaml.Path, str, policy.Key]]:
    for name, person in rules.people.items():
        yield from ((("people", name, "keys", n), name, key) for n, key in enumerate(person.keys))
    for name, robot in rules.robots.items():
        yield from ((("robots", name, "keys", n), name, key) for n, key in enumerate(robot.keys))


def _of_keys(rules: policy.Policy, _: _Terms) -> _Found:
    owners: dict[str, str] = {}
    for path, name, key in _keys(rules):
        if owners.setdefault(key.id, name) != name:
            yield path, f"the key {key.id} is {owners[key.id]}'s too"
        if key.not_after <= key.not_before or key.not_after - key.not_before > LONGEST:
            yield (*path, "notAfter"), "a key ends after it begins, and within 13 months"
        if key.user_presence and not key.type.startswith("sk-"):
            yield (*path, "userPresence"), "only hardware keys (sk-...) can prove presence"
        if key.is_openpgp and "approve" in key.use:
            yield (*path, "use"), "OpenPGP keys sign commits and merges only; approvals are signed with SSH keys"
        yield from _of_public(path, key)
    lists = [*(p.emails for p in rules.people.values()), *(r.emails for r in rules.robots.values())]
    emails = Counter(email.casefold() for each in lists for email in each)
    for email in sorted(e for e, n in emails.items() if n > 1):
        yield ("people",), f"the address {email} stands twice"


def _of_public(path: strict_yaml.Path, key: policy.Key) -> _Found:
    try:
        actual = policy.fingerprint(key)
    except errors.ConfigError as exc:
        yield (*path, "public"), exc.message
        return
    if actual != key.id:
        yield (*path, "id"), f"this is the key {actual}"


def _needs(rules: policy.Policy) -> Iterator[tuple[strict_yaml.Path, tuple[policy.Slot, ...]]]:
    yield from ((("rules", n, "need"), rule.need) for n, rule in enumerate(rules.rules))
    yield from ((("hazards", n, "need"), rule.need) for n, rule in enumerate(rules.hazards))
    yield ("rules",), rules.meta.need
    yield ("recovery", "need"), rules.recovery.need
    if rules.rollback:
        yield ("rollback", "need"), rules.rollback.need
    if rules.emergency:
        yield ("emergency", "need"), rules.emergency.need
        yield ("emergency", "review", "need"), rules.emergency.review.need
    if rules.gates.waive:
        yield ("gates", "waive", "need"), rules.gates.waive.need


def _of_names(rules: policy.Policy, _: _Terms) -> _Found:
    for team, members in rules.teams.items():
        if not members:
            yield ("teams", team), "nobody is in this team"
        for name in members:
            if name not in rules.people:
                yield ("teams", team), f"{name!r} is nobody in `people`"
    for path, need in _needs(rules):
        for team in sorted({team for slot in need for team in slot.among} - rules.teams.keys()):
            yield path, f"there is no team {team!r}"
    named: list[tuple[strict_yaml.Path, tuple[str, ...]]]
    named = [(("rules", n, "environments"), rule.environments) for n, rule in enumerate(rules.rules)]
    named += [(("freeze", n, "environments"), each.environments) for n, each in enumerate(rules.freeze)]
    named += [(("windows", n, "environments"), each.environments) for n, each in enumerate(rules.windows)]
    named += [(("gates", "required"), tuple(rules.gates.required))]
    for place, names in named:
        for name in names:
            if name not in rules.environments:
                yield place, f"there is no environment {name!r}"


def _of_duties(rules: policy.Policy, _: _Terms) -> _Found:
    own = ((("rules", n, "sod"), rule.sod) for n, rule in enumerate(rules.rules) if rule.sod is not None)
    for path, duties in ((("defaults", "sod"), rules.defaults.sod), *own):
        if not {"author", "committer"} <= set(duties):
            yield path, "authors and committers never approve their own change: both must stand here"


def _of_rules(rules: policy.Policy, _: _Terms) -> _Found:
    ids = Counter(rule.id for rule in rules.rules)
    for name in sorted(name for name, n in ids.items() if n > 1):
        yield ("rules",), f"two rules are called {name!r}"
    for reserved in sorted(ids.keys() & {"recovery", "rollback", "emergency"}):
        yield ("rules",), f"the id {reserved!r} is taken"
    if not any("/**" in rule.paths and not rule.types and not rule.environments for rule in rules.rules):
        yield ("rules",), "some paths match no rule: one rule has paths ['/**'], without types and environments"
    for n, rule in enumerate(rules.rules):
        if rule.id == "meta" and (policy.META_PATHS not in rule.paths or rule.types or rule.environments):
            yield ("rules", n), f"the rule `meta` has paths ['{policy.META_PATHS}'], without types and environments"


def _able(rules: policy.Policy, among: Iterable[str], now: datetime) -> frozenset[str]:
    """Who could fill a slot of these teams: members with a key for approving that has neither ended nor been revoked."""
    people = ((name, rules.people[name].keys) for name in rules.members(tuple(among)))
    return frozenset(name for name, keys in people if any(_approves(key, now) for key in keys))


def _approves(key: policy.Key, now: datetime) -> bool:
    return "approve" in key.use and now < key.not_after and not key.revoked_at(now)


def _of_thresholds(rules: policy.Policy, terms: _Terms) -> _Found:
    """In production the author may be one of them; in development it is enough that somebody can."""
    for path, need in _needs(rules):
        for slot in need:
            left = len(_able(rules, slot.among, terms.now)) - (1 if terms.production else 0)
            if slot.count > left:
                yield (
                    path,
                    f"{slot}: only {left} could approve{' when one of them is the author' if terms.production else ''}",
                )


def _of_slots_together(rules: policy.Policy, terms: _Terms) -> _Found:
    """Nobody fills two slots of one change: a rule that needs the same few people as those that apply to every path beside it."""
    always = [rule for rule in rules.rules if "/**" in rule.paths and not rule.types and not rule.environments]
    beside: list[tuple[strict_yaml.Path, policy.Rule]]
    beside = [(("rules", n), rule) for n, rule in enumerate(rules.rules) if rule not in always and rule.id != "meta"]
    beside += [(("hazards", n), _rule(hazard.need)) for n, hazard in enumerate(rules.hazards)]
    beside += [(("rules",), rules.meta), (("recovery",), _rule(rules.recovery.need))]
    said: set[str] = set()
    for path, rule in beside:
        hits = [slots.Hit(each, ()) for each in (*always, rule)]
        found = _too_few_together(rules, slots.ask(rules, hits, frozenset()), terms)
        if found and found not in said:
            said.add(found)
            yield path, found


def _rule(need: tuple[policy.Slot, ...]) -> policy.Rule:
    return policy.Rule(id="beside", paths=("/**",), need=need)


def _too_few_together(rules: policy.Policy, asked: tuple[slots.Asked, ...], terms: _Terms) -> str:
    """Of the smallest set of slots whose people are fewer than their places (Hall's theorem); each alone is another check's."""
    able = [_able(rules, each.slot.among, terms.now) for each in asked[:_MOST_SLOTS]]
    for size in range(2, len(able) + 1):
        for some in itertools.combinations(range(len(able)), size):
            places = sum(asked[n].slot.count for n in some)
            left = len(frozenset().union(*(able[n] for n in some))) - (1 if terms.production else 0)
            alone = any(asked[n].slot.count > len(able[n]) - (1 if terms.production else 0) for n in some)
            if places > left and not alone:
                names = " and ".join(str(asked[n].slot) for n in some)
                return f"{names} together: only {left} could approve{' beside the author' if terms.production else ''}"
    return ""


def _of_review(rules: policy.Policy, terms: _Terms) -> _Found:
    """Other people than those who broke the glass, and than the author, have to be left: it is never closed otherwise."""
    if rules.emergency is None:
        return
    breakers = sum(slot.count for slot in rules.emergency.need)
    could = frozenset().union(*(_able(rules, slot.among, terms.now) for slot in rules.emergency.need))
    for slot in rules.emergency.review.need:
        able = _able(rules, slot.among, terms.now)
        left = len(able) - min(breakers, len(able & could)) - (1 if terms.production else 0)
        if slot.count > left:
            yield (
                ("emergency", "review", "need"),
                f"{slot}: {left} left beside the author and those who broke the glass",
            )


def _tight(rules: policy.Policy, terms: _Terms) -> _Found:
    if terms.production:
        return
    for path, need in _needs(rules):
        for slot in need:
            if slot.count == len(_able(rules, slot.among, terms.now)):
                yield path, f"{slot}: nobody is left when one of them is the author"


def _of_time(rules: policy.Policy, terms: _Terms) -> _Found:
    if rules.expires is not None and rules.expires <= terms.now:
        yield ("expires",), "it has expired already"


def _of_production(rules: policy.Policy) -> _Found:
    if rules.defaults.approval_ttl > _LONGEST_TTL_S:
        yield ("defaults", "approvalTtl"), "at most 30 days"
    if not rules.defaults.require_signed_commits:
        yield ("defaults", "requireSignedCommits"), "every commit is signed in production"
    if not rules.gates.critical:
        yield ("gates", "critical"), "no gate is critical"
    if len(rules.members((policy.ADMINS,))) < _ADMINS:
        yield ("teams", policy.ADMINS), f"at least {_ADMINS} people in {policy.ADMINS}"


def _soon(rules: policy.Policy, now: datetime) -> _Found:
    if rules.expires is not None and now < rules.expires <= now + SOON:
        yield ("expires",), f"it expires at {model.print_time(rules.expires)}"
    for path, name, key in _keys(rules):
        if key.revoked is None and key.not_after <= now + SOON:
            yield path, f"a key of {name} ends at {model.print_time(key.not_after)}"


def _idle(rules: policy.Policy, paths: tuple[bytes, ...]) -> _Found:
    if not paths:
        return
    for n, rule in enumerate(rules.rules):
        for pattern in rule.paths:
            if not any(patterns.matches(pattern, path) for path in paths):
                yield ("rules", n, "paths"), f"{tree.show(pattern.encode())} matches nothing in the repository"
