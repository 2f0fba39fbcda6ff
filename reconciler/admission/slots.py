"""Which rules a merge hits, and who fills the slots that they ask for (trust.md 2.3, P9). Pure.

The slots are the multiset union over the rules: for equal `from` the larger count and the stronger level win, different
`from` add up. Distinct people must fill them: a maximum bipartite matching.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from reconciler import model
from reconciler.admission import effect, facts, patterns, policy, tree
from reconciler.audit import record

HAZARDS = "hazards-"  # of the ids of their rules, which the policy does not name
_SHOWN_PATHS = 20
_SHOWN_PEOPLE = 5


@dataclass(frozen=True)
class Hit:
    """A rule that applies, and which of the changed paths it matches."""

    rule: policy.Rule
    paths: tuple[bytes, ...]
    glass: bool = False  # it is the policy's `emergency`


@dataclass(frozen=True)
class Asked:
    """The slots of one `from`, after the union. `barred`: who may not fill them because some rule's `sod` says so."""

    slot: policy.Slot
    members: frozenset[str]
    barred: frozenset[str]
    glass: bool = False  # emergency statements fill them and nothing else does; those fill no other slot


class Open(model.Value):
    """Slots that nobody fills yet, and who may."""

    slot: str
    missing: int
    may: tuple[str, ...]


@dataclass(frozen=True)
class Filled:
    """Who fills what. `people[n]` belong to `asked[n]`."""

    asked: tuple[Asked, ...]
    people: tuple[tuple[str, ...], ...]
    missing: model.ValidationResult


def hits(rules: policy.Policy, done: effect.Effect, concerns: Mapping[bytes, facts.Concern]) -> tuple[Hit, ...]:
    """Every rule of the policy that matches; that of the policies themselves cannot be narrowed or left out (P11)."""
    found = [_hit(rule, done, concerns) for rule in rules.rules if rule.id != rules.meta.id]
    guarded = tuple(path for path in done.paths if path.startswith(b"policies/"))
    if guarded:
        found.append(Hit(rules.meta.model_copy(update={"types": (), "environments": ()}), guarded))
    added = facts.hazards(concerns)
    for n, hazard in enumerate(rules.hazards):
        if added is facts.EVERY or not added.isdisjoint(hazard.any):
            found.append(Hit(policy.Rule(id=f"{HAZARDS}{n}", paths=("/**",), need=hazard.need), ()))
    return tuple(hit for hit in found if hit is not None)


def _hit(rule: policy.Rule, done: effect.Effect, concerns: Mapping[bytes, facts.Concern]) -> Hit | None:
    narrowed = bool(rule.types or rule.environments)
    if not done.paths:  # An empty merge changes no path of any target.
        return Hit(rule, ()) if "/**" in rule.paths and not narrowed else None
    paths = tuple(
        path
        for path in done.paths
        if patterns.matches_any(rule.paths, path)
        and (not narrowed or _concerned(rule, concerns.get(effect.folder_of(path))))
    )
    return Hit(rule, paths) if paths else None


def _concerned(rule: policy.Rule, concern: facts.Concern | None) -> bool:
    """A path outside the folders of targets has neither environment nor type."""
    if concern is None:
        return False
    pairs = ((rule.environments, concern.environments), (rule.types, concern.types))
    return all(not asked or names is facts.EVERY or not names.isdisjoint(asked) for asked, names in pairs)


def ask(rules: policy.Policy, found: Sequence[Hit], mergers: frozenset[str]) -> tuple[Asked, ...]:
    """The union of the slots of these rules, in a fixed order."""
    union: dict[tuple[bool, tuple[str, ...]], Asked] = {}
    for hit in found:
        barred = mergers if bars_mergers(rules, (hit,)) else frozenset()
        for slot in hit.rule.need:
            teams = tuple(sorted(set(slot.among)))
            had = union.get((hit.glass, teams))
            union[hit.glass, teams] = Asked(
                slot=_stronger(slot, had.slot) if had else slot,
                members=rules.members(teams),
                barred=barred | had.barred if had else barred,
                glass=hit.glass,
            )
    return tuple(union[each] for each in sorted(union))


def bars_mergers(rules: policy.Policy, found: Sequence[Hit]) -> bool:
    """Whether one of these rules keeps whoever merges from approving."""
    return any("merger" in (rules.defaults.sod if hit.rule.sod is None else hit.rule.sod) for hit in found)


def _stronger(one: policy.Slot, other: policy.Slot) -> policy.Slot:
    return one.model_copy(update={"count": max(one.count, other.count), "level": max(one.level, other.level)})


def fill(
    asked: tuple[Asked, ...],
    people: Sequence[str],
    breakers: Sequence[str] = (),
    excluded: frozenset[str] = frozenset(),
) -> Filled:
    """Put each of these people, all of whom count, into at most one slot; as many slots as can be filled.

    `breakers`: whose emergency statements count; `people`: whose approvals do; `excluded`: whose never could, for what
    is said of an open slot.
    """
    places = [n for n, each in enumerate(asked) for _ in range(each.slot.count)]
    able = [(each.members - each.barred).intersection(breakers if each.glass else people) for each in asked]
    taken: dict[int, str] = {}
    for person in sorted({*people, *breakers}):
        _seat(person, able, places, taken, set())
    filled = tuple(
        tuple(sorted(taken[p] for p, n in enumerate(places) if n == at and p in taken)) for at in range(len(asked))
    )
    return Filled(asked, filled, _missing(asked, filled, able, excluded))


def _seat(
    person: str, able: Sequence[frozenset[str]], places: list[int], taken: dict[int, str], tried: set[int]
) -> bool:
    """Kuhn's augmenting path: whoever sits there moves on where that makes room."""
    for place, n in enumerate(places):
        if place in tried or person not in able[n]:
            continue
        tried.add(place)
        if place not in taken or _seat(taken[place], able, places, taken, tried):
            taken[place] = person
            return True
    return False


def _missing(
    asked: tuple[Asked, ...],
    filled: tuple[tuple[str, ...], ...],
    able: Sequence[frozenset[str]],
    excluded: frozenset[str] = frozenset(),
) -> model.ValidationResult:
    """`distinct_persons` where each rule alone could be filled, but only by counting somebody twice."""
    found: list[model.Reason] = []
    gone = excluded.union(*filled)
    for each, sitting, could in zip(asked, filled, able, strict=True):
        if each.glass and len(sitting) < each.slot.count:
            found.append(_too_few(each, len(sitting)))
        elif len(could) < each.slot.count:
            message = f"{each.slot} needed, {len(could)} found"
            found.append(_lack("threshold", message, each, each.slot.count - len(sitting), gone))
        elif len(sitting) < each.slot.count:
            message = f"{each.slot} needed beside the other slots, by other people"
            found.append(_lack("distinct_persons", message, each, each.slot.count - len(sitting), gone))
    return tuple(found)


def _lack(code: str, message: str, asked: Asked, missing: int, gone: frozenset[str]) -> model.Reason:
    """With who is kept from it by having merged, and whether anybody is left at all."""
    left, barred = asked.members - asked.barred - gone, asked.members & asked.barred
    teams = " or ".join(asked.slot.among)
    if barred:
        message += f"; {_named(barred)} merged it, and whoever merges may not approve (sod)"
    fix = f"ask another member of {teams}: reconciler approve HEAD --key KEY --push"
    if len(left) < missing:
        fix = f"too few members of {teams} are left to approve it: the policy has to name more"
        if barred - gone:
            but = _named(barred - gone)
            fix = f"nobody is left but {but}: somebody else has to merge it (`recover`, where it is on the branch)"
    elif barred:
        fix = f"ask {_named(left)}: reconciler approve HEAD --key KEY --push"
    return model.Reason(code=code, message=message, fix=fix)


def _named(people: frozenset[str]) -> str:
    shown, more = sorted(people)[:_SHOWN_PEOPLE], len(people) - _SHOWN_PEOPLE
    return ", ".join(shown) + (f" and {more} more" if more > 0 else "")


def _too_few(asked: Asked, found: int) -> model.Reason:
    return model.Reason(
        code="emergency_scope",
        message=f"the emergency needs {asked.slot}, {found} found",
        fix=f"ask another member of {' or '.join(asked.slot.among)}: reconciler emergency HEAD --incident INC --reason WHY --key KEY --push",
    )


def still_open(filled: Filled, excluded: frozenset[str]) -> tuple[Open, ...]:
    """Who may still fill which slot."""
    sitting = frozenset(person for people in filled.people for person in people)
    return tuple(
        Open(
            slot=str(each.slot),
            missing=each.slot.count - len(people),
            may=tuple(sorted(each.members - each.barred - excluded - sitting)),
        )
        for each, people in zip(filled.asked, filled.people, strict=True)
        if len(people) < each.slot.count
    )


def results(found: Sequence[Hit], filled: Filled) -> tuple[record.RuleResult, ...]:
    """What the record keeps of each rule."""
    sitting = {
        (a.glass, tuple(sorted(set(a.slot.among)))): people
        for a, people in zip(filled.asked, filled.people, strict=True)
    }
    return tuple(
        record.RuleResult(
            id=hit.rule.id,
            paths=tuple(tree.show(path) for path in hit.paths[:_SHOWN_PATHS]),
            need=tuple(str(slot) for slot in hit.rule.need),
            got=tuple(
                sorted({p for slot in hit.rule.need for p in sitting[hit.glass, tuple(sorted(set(slot.among)))]})
            ),
        )
        for hit in found
    )
