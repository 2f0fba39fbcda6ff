"""`init`: everything that a newcomer needs, ready for `run`. Refuses before it writes anything."""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Literal, NamedTuple

import typer

from reconciler import errors, model
from reconciler.admission import lint, policy
from reconciler.audit import signing
from reconciler.cli import printing, skeleton
from reconciler.git import writing

app = typer.Typer(rich_markup_mode=None)
BRANCH = "main"
MESSAGE = "Begin: approval policy"
REASON = "made by reconciler init"


class _Plan(NamedTuple):
    """What will be written, once nothing speaks against it."""

    repository: Path
    daemon: Path  # reconciler.yaml, the log's key, state
    pin: skeleton.Pin
    files: Mapping[str, bytes]
    url: str


@app.command()
def init(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="What is made; with --existing, the repository.")],
    person: Annotated[
        list[str],
        typer.Option("--person", help="NAME=KEY.pub, for each person.", default_factory=list, show_default=False),
    ],
    admin: Annotated[
        list[str],
        typer.Option("--admin", help="Who may change policies; else all.", default_factory=list, show_default=False),
    ],
    email: Annotated[
        list[str],
        typer.Option(
            "--email", help="NAME=ADDRESS; else their key's comment.", default_factory=list, show_default=False
        ),
    ],
    *,
    key: Annotated[
        Path | None, typer.Option("--key", help="Private SSH key of one of them: signs the first commit.")
    ] = None,
    existing: Annotated[
        bool, typer.Option("--existing", help="Add the policy to the repository that is there.")
    ] = False,
    profile: Annotated[
        Literal["development", "production"], typer.Option("--profile", help="See reconciler.yaml.")
    ] = "development",
    url: Annotated[
        str, typer.Option("--url", help="Where the daemon fetches from; else the repository made here.")
    ] = "",
    daemon: Annotated[
        Path | None, typer.Option("--daemon", help="Where reconciler.yaml, state and the log's key go.")
    ] = None,
) -> None:
    """Make a repository skeleton with its approval policy, the log's key, and reconciler.yaml with the first commit pinned."""
    people = _people(person, email)
    folder = folder.absolute()
    production = profile == "production"
    if production and not url:
        fix = "--url ssh://git@host/path: where the repository will be served from"
        raise errors.ConfigError(
            "config", "a production profile reads no folder of this machine", where="--url", fix=fix
        )
    repository = folder if existing else folder / "repository"
    beside = (daemon.absolute() if daemon else None) or (
        folder.with_name(f"{folder.name}-daemon") if existing else folder
    )
    signer = _signer(people, key)
    branch = _check_existing(folder) if existing else BRANCH
    pin = skeleton.Pin(f"urn:uuid:{uuid.uuid4()}", f"refs/heads/{branch}", production)
    approval = _lint(skeleton.approval_policy(people, _admins(admin, people), pin, datetime.now(UTC)), pin)
    machine = None if existing or production else beside / "machines" / "hello"
    files = {} if existing else skeleton.files(machine)
    plan = _Plan(repository, beside, pin, {policy.PATH: approval, **files}, url or f"file://{repository}")
    _check_free(plan, existing=existing)
    genesis = _write(plan, signer, existing=existing)
    _tell(plan, people, genesis, signed=signer is not None, existing=existing)


def _people(person: list[str], email: list[str]) -> tuple[skeleton.Person, ...]:
    addresses = dict(_pair(each, "--email NAME=ADDRESS") for each in email)
    named = [_pair(each, "--person NAME=KEY.pub") for each in person]
    names = [name for name, _ in named]
    if unknown := sorted(addresses.keys() - set(names)):
        raise errors.ConfigError("person", f"{unknown[0]} is no --person", where="--email")
    if len(set(names)) < len(names):
        raise errors.ConfigError("person", "a name stands twice", where="--person", fix="one --person for each person")
    if not named:
        raise errors.ConfigError("person", "who may change and approve?", fix="--person NAME=KEY.pub, twice at least")
    found = skeleton.with_emails([skeleton.read_person(n, Path(path), addresses.get(n, "")) for n, path in named])
    return tuple(found)


def _pair(text: str, form: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not name or not equals or not value:
        raise errors.ConfigError("person", f"{text!r}: {form} is expected")
    return name, value


def _admins(admin: list[str], people: tuple[skeleton.Person, ...]) -> list[str]:
    names = [person.name for person in people]
    if unknown := [name for name in admin if name not in names]:
        raise errors.ConfigError("person", f"{unknown[0]} is no --person", where="--admin")
    return list(dict.fromkeys(admin)) or names


def _signer(people: tuple[skeleton.Person, ...], key: Path | None) -> writing.Signer | None:
    """Whose key it is, among the people named."""
    if key is None:
        return None
    public = key if key.suffix == ".pub" else key.with_name(key.name + ".pub")
    key_id = skeleton.read_person("key", public).key_id
    for person in people:
        if person.key_id == key_id:
            return writing.Signer(key, person.name, person.email)
    raise errors.ConfigError("person", "the key belongs to nobody of --person", where=str(key))


def _lint(blob: bytes, pin: skeleton.Pin) -> bytes:
    """Refuse what admission would refuse; show what it warns of."""
    found = lint.lint(
        blob, source_id=pin.repository_id, source_ref=pin.ref, now=datetime.now(UTC), production=pin.production
    )
    for reason in found.warnings:
        printing.say(f"warning: {reason.message} ({reason.where})")
    if found.errors:
        message = "; ".join(reason.message for reason in found.errors)
        fix = "name more people with --person and --admin; a production profile wants two admins"
        raise errors.ConfigError("policy_lint", message, where=found.errors[0].where, fix=fix)
    return blob


def _check_existing(folder: Path) -> str:
    """The branch that is checked out, in a clean work tree.

    Raises: ConfigError(repository).
    """
    import git

    try:
        found = git.Repo(folder)
        branch = found.active_branch.name
        dirty = found.is_dirty(untracked_files=True) or not found.head.is_valid()
        held = policy.PATH in found.git.ls_files().splitlines()
    except (git.InvalidGitRepositoryError, git.NoSuchPathError, TypeError) as exc:
        fix = "without --existing a repository is made"
        raise errors.ConfigError(
            "repository", "no work tree of a repository, on a branch", where=str(folder), fix=fix
        ) from exc
    if dirty:
        raise errors.ConfigError(
            "repository", "the work tree has changes or no commit", where=str(folder), fix="commit them"
        )
    if held:
        raise errors.ConfigError("repository", "there is an approval policy already", where=policy.PATH)
    return branch


def _check_free(plan: _Plan, *, existing: bool) -> None:
    """Nothing that is there is written over."""
    places = [plan.daemon / name for name in ("reconciler.yaml", "log_ed25519", "state")]
    for place in places if existing else (plan.repository, *places):
        if place.exists():
            raise errors.ConfigError("exists", "it is there already", where=str(place), fix="name another folder")


def _write(plan: _Plan, signer: writing.Signer | None, *, existing: bool) -> model.Oid:
    if not existing:
        plan.repository.mkdir(parents=True)
        writing.make_repository(plan.repository, BRANCH, takes_pushes=True)
    for name, blob in plan.files.items():
        path = plan.repository / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(blob)
    try:
        genesis = writing.commit(plan.repository, signer, MESSAGE) if signer else _commit_unsigned(plan)
    except errors.PermanentError as exc:
        for name in plan.files if existing else ():  # So that it can be tried again: the work tree was clean.
            (plan.repository / name).unlink()
        if existing:
            writing.unstage(plan.repository)
        fix = "mend what git complains of there, .gitattributes among it, and try again"
        raise errors.ConfigError("repository", exc.message, where=str(plan.repository), fix=fix) from exc
    plan.daemon.mkdir(parents=True, exist_ok=True)
    signing.FileSigner.make(plan.daemon / "log_ed25519")
    (plan.daemon / "state").mkdir(mode=0o700)
    if not plan.pin.production:
        (plan.daemon / "machines" / "hello").mkdir(parents=True)
    values = {"installation": skeleton.installation(plan.daemon), "url": plan.url, "reason": REASON}
    (plan.daemon / "reconciler.yaml").write_bytes(skeleton.configuration(values, plan.pin, genesis))
    return genesis


def _commit_unsigned(plan: _Plan) -> model.Oid:
    """The pinned commit is accepted on the operator's word; a signature on it is good to have and proves nothing."""
    import git

    who = git.Actor("reconciler init", "init@localhost")
    found = git.Repo(plan.repository)
    found.index.add([str(plan.repository / name) for name in plan.files])
    return model.Oid(found.index.commit(MESSAGE, author=who, committer=who).hexsha)


def _tell(
    plan: _Plan, people: tuple[skeleton.Person, ...], genesis: model.Oid, *, signed: bool, existing: bool
) -> None:
    rows = [
        ("repository", str(plan.repository)),
        ("genesis", genesis + ("" if signed else " (not signed: no --key)")),
        ("policy", str(plan.repository / policy.PATH)),
        ("configuration", str(plan.daemon / "reconciler.yaml")),
        ("log key", str(plan.daemon / "log_ed25519")),
    ]
    for name, text in rows:
        printing.out(f"{name:14} {text}")
    for person in people:
        printing.out(f"{person.name:14} commits as <{person.email}>, key {person.key_id}")
    printing.say("next:")
    if plan.url != f"file://{plan.repository}":
        printing.say(f"  git -C {plan.repository} push {plan.url} HEAD:{plan.pin.ref}")
    if plan.pin.production:
        printing.say(f"  $EDITOR {plan.daemon / 'reconciler.yaml'}    # source.auth")
    elif existing and plan.url == f"file://{plan.repository}":  # Its settings are its owner's.
        printing.say(f"  git -C {plan.repository} config receive.denyCurrentBranch updateInstead    # it takes pushes")
    printing.say(f"  cd {plan.daemon} && reconciler run    # or, once: reconciler once")
    printing.say(f"  git clone {plan.url} CLONE    # commit a change there, signed, on a branch of its own")
    printing.say("  reconciler approve HEAD --key KEY --push    # in CLONE, by another person")
    printing.say("  reconciler merge HEAD --key KEY --push    # by anybody whose approval is not needed")
