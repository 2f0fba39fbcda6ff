"""The bank of the working week: 200 people in twelve teams, 60 targets, their policy, their hours. No event and no daemon."""

from __future__ import annotations

import json
import random
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import cache

from pydantic import JsonValue
from support import estate, objects, signing

from reconciler import model

NOTHING = model.Oid("")
MONDAY = datetime(2026, 11, 23, tzinfo=UTC)
OPENS, CLOSES = timedelta(hours=8, minutes=30), timedelta(hours=17, minutes=30)
DAYS = 5
FREEZE = (MONDAY + timedelta(days=4, hours=16), MONDAY + timedelta(days=7, hours=6))  # Friday evening to Monday morning

TEAMS = {f"team{n:02}": [f"p{14 * n + k:03}" for k in range(14)] for n in range(12)}
SRE = [f"p{n:03}" for n in range(168, 184)]
SECURITY = [f"p{n:03}" for n in range(184, 190)]
ADMINS = [f"p{n:03}" for n in range(190, 194)]
RELEASE = [f"p{n:03}" for n in range(194, 200)]
PEOPLE = [*(person for team in TEAMS.values() for person in team), *SRE, *SECURITY, *ADMINS, *RELEASE]

SCANNER = "scanner"  # the stand-in for a scanner that calls out; which targets ask for it: `scanned`
LINES = ("limits", "image", "replicas", "flags")  # of a target's payload, each a resource that people edit


@dataclass
class Target:
    """One target's document and payload as Git holds them."""

    environment: str
    scanned: bool
    depends_on: tuple[str, ...] = ()
    owner: str = ""  # a label: who edits it touches the document, not the payload
    values: dict[str, str] = field(default_factory=lambda: dict.fromkeys(LINES, "1"))


def targets() -> dict[str, Target]:
    """Five a team: a database, two services on it, a job, all in production, and a sandbox."""
    made: dict[str, Target] = {}
    for n, team in enumerate(TEAMS):
        made[f"{team}-db"] = Target("prod", scanned=False)
        made[f"{team}-api"] = Target("prod", scanned=n % 2 == 0, depends_on=(f"{team}-db",))
        made[f"{team}-web"] = Target("prod", scanned=n % 4 == 0)
        made[f"{team}-job"] = Target("prod", scanned=False)
        made[f"{team}-box"] = Target("dev", scanned=n % 2 == 0)
    return made


def document(name: str, target: Target) -> bytes:
    spec: dict[str, JsonValue] = {"type": "memory", "environment": target.environment, "interval": "30m"}
    if target.scanned:
        spec["deploy"] = {"checks": [{SCANNER: "scan"}]}
    if target.depends_on:
        spec["dependsOn"] = list(target.depends_on)
    metadata: dict[str, JsonValue] = {"name": name, "labels": {"owner": target.owner or name.partition("-")[0]}}
    written = {"apiVersion": "reconciler/v1", "kind": "Target", "metadata": metadata, "spec": spec}
    return json.dumps(written, indent=1).encode()


def payload(target: Target) -> bytes:
    listed = [{"kind": "item", "namespace": "n", "name": name, "value": v} for name, v in target.values.items()]
    return json.dumps({"resources": listed}, indent=1).encode()


def paths_of(name: str) -> tuple[str, str]:
    return f"targets/{name}/target.yaml", f"targets/{name}/resources.yaml"


def files(made: Mapping[str, Target]) -> dict[str, bytes]:
    found: dict[str, bytes] = {"docs/runbook.md": b"Call the team.\n"}
    for name, target in made.items():
        first, second = paths_of(name)
        found |= {first: document(name, target), second: payload(target)}
    return found


@cache
def key(name: str) -> signing.Key:
    return signing.Key(name)


def policy(*, sre: int = 1, keys: Mapping[str, list[estate.Spec]] | None = None) -> bytes:
    """`sre`: how many of them production needs; `keys`: of those who have other keys than their first."""
    spec = estate.policy_spec()
    spec["people"] = {name: estate.person(name, *(keys or {}).get(name, [])) for name in PEOPLE}
    engineers = [*(person for team in TEAMS.values() for person in team), *SRE, *RELEASE]
    spec["teams"] = {**TEAMS, "sre": SRE, "security": SECURITY, "policy-admins": ADMINS, "engineers": engineers}
    spec["rules"] = [
        {"id": "base", "paths": ["/**"], "need": [estate.need("engineers", 1)]},
        {"id": "prod", "paths": ["/targets/**"], "environments": ["prod"], "need": [estate.need("sre", sre)]},
        {"id": "meta", "paths": ["/policies/**"], "need": [estate.need("policy-admins", 2)]},
    ]
    del spec["hazards"]
    spec["freeze"] = [{"id": "weekend", "from": spelled(FREEZE[0]), "to": spelled(FREEZE[1]), "environments": ["prod"]}]
    spec["gates"] = {"required": {"prod": ["schema", "rollback"]}, "critical": ["schema", "rollback"]}
    return estate.policy_blob(spec)


def spelled(at: datetime) -> str:
    return at.strftime("%Y-%m-%dT%H:%M:%SZ")


def at_work(at: datetime, minutes: float) -> datetime:
    """The moment so many minutes of working time after `at`."""
    left = timedelta(minutes=minutes)
    while True:
        day = at.replace(hour=0, minute=0, second=0, microsecond=0)
        at = max(at, day + OPENS)
        if day.weekday() < DAYS and at < day + CLOSES:
            if at + left <= day + CLOSES:
                return at + left
            left -= day + CLOSES - at
        at = day + timedelta(days=1)


def moment(rng: random.Random, day: int) -> datetime:
    """When a request is opened: busiest in the middle of the morning and of the afternoon."""
    hour = rng.choice((rng.triangular(8.6, 12.5, 10), rng.triangular(13, 17.3, 14.5)))
    return MONDAY + timedelta(days=day, hours=hour)


def team_of(person: str) -> str:
    return next((team for team, people in TEAMS.items() if person in people), "")


def author_of(name: str) -> objects.Who:
    return objects.who(name)
