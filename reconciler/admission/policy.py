"""The approval policy in force: `policies/approval.yaml` as values, and the look-ups of a judge (trust.md 4.1).

Not here: what only a linter refuses (`lint.py`), the calendar (`calendar.py`), what a target may reach (`reach.py`), who fills
which slot (`ballot.py`).
A field that this version cannot honour is refused by name, never skipped.
"""

from __future__ import annotations

import contextlib
import functools
import re
from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Annotated, Literal

import pydantic

from reconciler import documents, errors, model, ports, strict_yaml
from reconciler.admission import calendar, packets, patterns, reach, signature

PATH = "policies/approval.yaml"
META_PATHS = "/policies/**"
ADMINS = "policy-admins"
GRACE = timedelta(days=30)  # of a person's ended key, for commits that were on their way (trust.md 2.1)
MAX_TTL_S = 30 * 86400.0
MAX_BLOB_BYTES = 1 << 20
LONGEST_EMERGENCY_S = 4 * 3600.0
OPENPGP = "openpgp"

Use = Literal["commit", "approve", "merge"]
Duty = Literal["author", "committer", "poster", "pusher", "merger"]

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_SIZE = re.compile(r"([1-9][0-9]{0,8})(KiB|MiB)")


def _size(text: object) -> int:
    match = _SIZE.fullmatch(text) if isinstance(text, str) else None
    if match is None:
        raise ValueError("a size is written '512KiB' or '1MiB'")
    return int(match[1]) * {"KiB": 1 << 10, "MiB": 1 << 20}[match[2]]


def _readable(size_bytes: int) -> int:
    if size_bytes > MAX_BLOB_BYTES:
        raise ValueError("no file above 1MiB is ever read: keep it elsewhere")
    return size_bytes


def _path(text: str) -> str:
    if problem := patterns.problem(text):
        raise ValueError(f"{text!r}: {problem}")
    return text


def _namespace(text: str) -> str:
    """One that others sign for too would let a signature made for something else pass as an approval."""
    if text in {"git", "file"}:
        raise ValueError(
            f"{text!r} is used for other signatures; write one of your own, such as 'change-approval@bank.example'"
        )
    return text


Environment = reach.Environment
Names = tuple[documents.NonEmpty, ...]
Count = Annotated[int, pydantic.Field(strict=True, ge=1, le=100)]
Flag = Annotated[bool, pydantic.Field(strict=True)]
PathPattern = Annotated[str, pydantic.AfterValidator(_path)]
Size = Annotated[int, pydantic.BeforeValidator(_size, json_schema_input_type=str)]


class Key(documents.Camel):
    """One key; `id` is its fingerprint, `public` the base64 of its blob. Of `type: openpgp`, for commits and merges only:

    the full fingerprint of a version 4 key, and the base64 of `gpg --export` or the text of `gpg --export --armor`.
    """

    id: Annotated[str, pydantic.Field(pattern=r"^(SHA256:[A-Za-z0-9+/]{43}|[0-9A-F]{40})$")]
    type: documents.NonEmpty
    public: documents.NonEmpty
    use: Annotated[tuple[Use, ...], pydantic.Field(min_length=1)]
    not_before: calendar.Instant
    not_after: calendar.Instant
    user_presence: Flag = False
    revoked: calendar.Instant | None = None

    @property
    def is_openpgp(self) -> bool:
        return self.type == OPENPGP

    def valid(self, at: datetime, *, grace: timedelta = timedelta(0)) -> bool:
        return self.not_before <= at < self.not_after + grace and not self.revoked_at(at)

    def revoked_at(self, at: datetime) -> bool:
        return self.revoked is not None and at >= self.revoked


class Person(documents.Camel):
    name: str = ""
    emails: Names = ()
    unit: str = ""
    keys: tuple[Key, ...] = ()


class Robot(documents.Camel):
    keys: tuple[Key, ...]
    use: Annotated[tuple[Use, ...], pydantic.Field(min_length=1)]
    emails: Names = ()
    paths: tuple[PathPattern, ...] = ()  # what its commits may change


class Slot(documents.Camel):
    among: Annotated[Names, pydantic.Field(alias="from", min_length=1)]  # teams
    count: Count = 1
    level: Literal["A1", "A2"] = "A2"

    def __str__(self) -> str:
        return f"{self.count} of {' or '.join(self.among)} ({self.level})"


Need = Annotated[tuple[Slot, ...], pydantic.Field(min_length=1)]


class Rule(documents.Camel):
    id: Annotated[str, pydantic.Field(pattern=r"^[a-z0-9][-a-z0-9]{0,62}$")]
    paths: Annotated[tuple[PathPattern, ...], pydantic.Field(min_length=1)]
    types: Names = ()
    environments: Names = ()
    need: Need
    sod: tuple[Duty, ...] | None = None


class HazardRule(documents.Camel):
    any: Annotated[Names, pydantic.Field(min_length=1)]
    need: Need


class Repo(documents.Camel):
    id: Annotated[str, pydantic.Field(pattern=r"^urn:uuid:[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$")]
    ref: Annotated[str, pydantic.Field(pattern=r"^refs/heads/[A-Za-z0-9._/-]+$")]
    object_format: Literal["sha1", "sha256"] = "sha1"


class Defaults(documents.Camel):
    require_signed_commits: Flag = True  # false: unsigned ones pass in a development profile; merges never do
    approval_ttl: Annotated[documents.Duration, pydantic.Field(gt=0, le=MAX_TTL_S)] = 7 * 86400.0
    # What the daemon's mirror reads at most: a policy may ask for less, and one that asks for more would not get it.
    max_files: Annotated[int, pydantic.Field(strict=True, ge=1, le=100_000)] = 100_000
    max_blob: Annotated[Size, pydantic.AfterValidator(_readable)] = MAX_BLOB_BYTES
    symlinks: Literal["deny", "allow"] = "deny"  # allow: to files of their own target's folder
    sod: tuple[Duty, ...] = ("author", "committer", "poster", "pusher", "merger")


class Meta(documents.Camel):
    """A need by itself: `recovery`, and the reviewers of an emergency."""

    need: Need


class Review(Meta):
    within: Annotated[documents.Duration, pydantic.Field(gt=0)]


class Emergency(Meta):
    """Who may break the glass, for how long, how often, and who looks at it afterwards (`emergency.py`)."""

    max_duration: Annotated[documents.Duration, pydantic.Field(gt=0, le=LONGEST_EMERGENCY_S)]
    max_per_week: Count
    requires: tuple[Literal["incident"], ...] = ()
    review: Review


class Rollback(Meta):
    within: documents.Duration = 14 * 86400.0


class Waive(Meta):
    """Who may answer for a finding of a gate that is not critical, and for how long at most (`waiving.py`)."""

    max_duration: Annotated[documents.Duration, pydantic.Field(gt=0)]


class Gates(documents.Camel):
    required: Mapping[str, Names] = {}  # environment -> gates
    critical: Names = ()
    waive: Waive | None = None


_ADMIN_SLOTS = (Slot.model_validate({"from": [ADMINS], "count": 2}),)


class Signer(model.Value):
    """Whose key it is, and the key."""

    name: str
    robot: bool = False
    key: Key
    paths: tuple[str, ...] = ()  # of a robot that commits


class PolicySpec(documents.Camel):
    """`spec` of the document."""

    repository: Repo
    namespace: Annotated[str, pydantic.Field(pattern=r"^[A-Za-z0-9@._-]{1,200}$"), pydantic.AfterValidator(_namespace)]
    expires: calendar.Instant | None = None
    people: Mapping[str, Person]
    robots: Mapping[str, Robot] = {}
    teams: Mapping[str, Names]
    environments: Mapping[str, Environment]
    defaults: Defaults = Defaults()
    rules: Annotated[tuple[Rule, ...], pydantic.Field(min_length=1)]
    hazards: tuple[HazardRule, ...] = ()
    freeze: tuple[calendar.Freeze, ...] = ()
    windows: tuple[calendar.Window, ...] = ()
    emergency: Emergency | None = None
    rollback: Rollback | None = None
    recovery: Meta = Meta(need=_ADMIN_SLOTS)
    gates: Gates = Gates()


class Policy(PolicySpec):
    """One policy; its identity is the SHA-256 of its blob."""

    digest: model.Digest

    @functools.cached_property
    def _owners(self) -> dict[str, Signer]:
        people = ((name, key) for name, person in self.people.items() for key in person.keys)
        found = {key.id: Signer(name=name, key=key) for name, key in people}
        for name, robot in self.robots.items():
            for key in robot.keys:
                limited = key.model_copy(update={"use": tuple(u for u in key.use if u in robot.use)})
                found[key.id] = Signer(name=name, robot=True, key=limited, paths=robot.paths)
        return found

    @functools.cached_property
    def openpgp_keys(self) -> Mapping[str, packets.Key]:
        """By primary fingerprint. One that cannot be read is nobody's: the linter lets none of these in."""
        listed = [key for person in self.people.values() for key in person.keys]
        listed += [key for robot in self.robots.values() for key in robot.keys]
        found: dict[str, packets.Key] = {}
        for key in (key for key in listed if key.is_openpgp):
            with contextlib.suppress(errors.ConfigError):
                read = packets.parse_key(key.public)
                found[read.fingerprint] = read
        return found

    @functools.cached_property
    def _identities(self) -> dict[str, str]:
        people = ((email, name) for name, person in self.people.items() for email in person.emails)
        robots = ((email, name) for name, robot in self.robots.items() for email in robot.emails)
        return {email.casefold(): name for email, name in (*people, *robots)}

    @functools.cached_property
    def meta(self) -> Rule:
        """What guards the policies themselves, whatever the policy says: two admins where it has no rule `meta`."""
        built_in = Rule(id="meta", paths=(META_PATHS,), need=_ADMIN_SLOTS)
        return next((rule for rule in self.rules if rule.id == "meta" and META_PATHS in rule.paths), built_in)

    def knows(self, key_id: str) -> bool:
        """Whether the key is anybody's, whatever it may."""
        return key_id in self._owners

    def identity_of(self, email: str) -> str | None:
        """The person or robot whose address this is, case apart: text that anybody can type, so it only ever excludes."""
        return self._identities.get(email.casefold())

    def members(self, teams: tuple[str, ...]) -> frozenset[str]:
        return frozenset(name for team in teams for name in self.teams.get(team, ()) if name in self.people)

    def whose(self, key_id: str, *, use: Use, at: datetime) -> Signer | model.Reason:
        """The one person or robot whose key this is, if it had this use at that time.

        Reasons: sig_key_unknown, sig_key_expired, sig_key_revoked, role; of approvals key_unknown, key_expired,
        key_revoked, robot_not_approver.
        """
        signer, code = self._owners.get(key_id), "" if use == "approve" else "sig_"
        if signer is None:
            return _key_reason(f"{code}key_unknown", f"{key_id} is nobody's key in the policy in force", "")
        if use == "approve" and signer.robot:
            return _key_reason("robot_not_approver", "no robot ever approves", signer.name)
        if use not in signer.key.use:
            missing = "key_unknown" if use == "approve" else "role"
            return _key_reason(missing, f"the key {key_id} has not the use `{use}`", signer.name)
        if signer.key.revoked_at(at):
            return _key_reason(
                f"{code}key_revoked", f"the key {key_id} was revoked before it was seen here", signer.name
            )
        if not signer.key.valid(at, grace=self._grace(signer, use, at)):
            return _key_reason(
                f"{code}key_expired", f"the key {key_id} is not valid at {model.print_time(at)}", signer.name
            )
        return signer

    def _grace(self, signer: Signer, use: Use, at: datetime) -> timedelta:
        """Of a person who is still here, which another valid key shows: a leaver has none."""
        if use != "commit" or signer.robot or signer.key.is_openpgp:
            return timedelta(0)
        others = (key for key in self.people[signer.name].keys if key.id != signer.key.id)
        return GRACE if any(key.valid(at) for key in others) else timedelta(0)

    def deferred(
        self, environment: str, now: datetime, *, emergency: bool = False
    ) -> tuple[model.Reason, datetime] | None:
        """The freeze or the closed window that keeps a change of this environment waiting, and until when.

        An emergency stands in for every window, and for the freezes that allow it.
        """
        if not emergency:
            return calendar.deferred(self.freeze, self.windows, environment, now)
        strict = tuple(each for each in self.freeze if "emergency" not in each.allow)
        return calendar.deferred(strict, (), environment, now)


def _key_reason(code: str, message: str, where: str) -> model.Reason:
    return model.Reason(
        code=code, message=message, where=where, fix="sign with a key that the policy lists for this use"
    )


class PolicyFile(documents.Camel):
    """The whole document, as JSON Schema shows it."""

    api_version: Literal["reconciler/v1"]
    kind: Literal["ApprovalPolicy"]
    spec: PolicySpec


def parse_policy(blob: bytes) -> Policy:
    """Raises: ConfigError(parse | policy_lint) with file and line."""
    return _parse(blob)


def read_policy(repository: ports.Repository, revision: model.Oid) -> Policy:
    """The policy that judges what comes on top of this revision. Parsed once, however often it is asked for.

    Raises: ConfigError(parse | policy_lint).
    """
    entry = repository.tree(revision).get(PATH.encode())
    if entry is None:
        raise errors.ConfigError(
            "policy_lint",
            "there is no approval policy",
            where=PATH,
            fix="reconciler init --existing --person NAME=KEY.pub DIR",
        )
    return _parse(repository.read(entry.oid))


@functools.lru_cache(maxsize=16)
def _parse(blob: bytes) -> Policy:
    located = strict_yaml.parse(blob, PATH)
    document = strict_yaml.mapping(located, PATH)
    try:
        spec = PolicyFile.model_validate(document).spec
    except ValueError as exc:
        found = strict_yaml.config_error(exc, located, PATH, schema=PolicyFile)
        fix = found.fix or "its fields: reconciler schema approval-policy"
        raise errors.ConfigError("policy_lint", found.message, where=found.where, fix=fix) from exc
    return Policy.model_construct(**dict(spec), digest=model.sha256(blob))


def fingerprint(key: Key) -> str:
    """What the `id` of a key must be. Raises: ConfigError(key | weak_alg)."""
    if key.is_openpgp:
        return packets.read_key(key.public).fingerprint
    return signature.key_id(f"{key.type} {key.public}")
