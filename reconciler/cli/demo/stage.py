"""Everything that the story needs, in one private folder, and its end.

people/NAME/{id_ed25519,state/}    a key and a clone for each person
forge.git                          the bare repository that all push to and the daemon reads
machines/NAME                      the folders that play the machines
daemon/                            reconciler.yaml, the log's key, state/, daemon.log
cluster/                           a control plane and its kubeconfigs, where one is asked for
scratch/                           temporary files of every command
"""

from __future__ import annotations

import json
import re
import shutil
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from reconciler import errors
from reconciler.admission import policy, signature
from reconciler.audit import signing
from reconciler.cli.demo import control_plane, interrupting, people, shell, telling, watching

INSTALLATION = "demo"
EXAMPLE = Path(__file__).parents[3] / "examples" / "repo"
_FOUNDER = "grace"  # makes the first commit: trust in it rests on the configuration, not on her
_ROBOT = "forge"
_LIFETIME = timedelta(days=30)
_SOCKET_CHARS = 100  # unix(7): 108 bytes on Linux, 104 elsewhere


@dataclass(frozen=True)
class Stage:
    folder: Path
    people: Mapping[str, people.Person]
    daemon: watching.Daemon
    terminal: shell.Shell
    teller: telling.Teller
    genesis: str
    set_up_s: float
    plane: control_plane.ControlPlane | None = None

    def machine(self, target: str) -> Path:
        return self.folder / "machines" / target

    @property
    def config(self) -> Path:
        return self.folder / "daemon" / "reconciler.yaml"

    @property
    def database(self) -> Path:
        return self.folder / "daemon" / "state" / "audit.db"

    @property
    def log_key(self) -> Path:
        return self.folder / "daemon" / "log_ed25519"


@contextmanager
def folder() -> Iterator[Path]:
    """Private, and gone afterwards: 0700, so that the folders in it may be roots of targets wherever it lies."""
    made = Path(tempfile.mkdtemp(prefix="reconciler-demo-")).resolve()
    try:
        if len(str(made / "daemon/state/daemon.sock")) > _SOCKET_CHARS:
            fix = "set TMPDIR to a shorter path"
            raise errors.ConfigError("demo", "a socket's path cannot be that long", where=str(made), fix=fix)
        yield made
    finally:
        shutil.rmtree(made, ignore_errors=True)


@contextmanager
def raised(
    place: Path,
    example: Path | None,
    teller: telling.Teller,
    interruptions: interrupting.Interruptions,
    *,
    cluster: bool = False,
) -> Iterator[Stage]:
    """Set up everything but the daemon's process, which the caller starts and this ends.

    `cluster`: with a control plane, which targets of the environment `dev` may reach.
    Raises: SceneFailedError; ConfigError where the example, or what a control plane needs, is not there.
    """
    begun = time.monotonic()
    example = example or EXAMPLE
    check(example)
    if cluster:
        control_plane.check()
    teller.called(place, "$DEMO")
    beside = place / "daemon"
    terminal = shell.Shell(shell.environment(place, beside / "reconciler.yaml"), interruptions)
    rules = policy.parse_policy((example / policy.PATH).read_bytes())
    cast = {
        name: people.Person(name, person.name, person.emails[0], place / "people" / name, terminal, teller)
        for name, person in rules.people.items()
    }
    robot = people.Person(_ROBOT, "Forge", rules.robots[_ROBOT].emails[0], place / "people" / _ROBOT, terminal, teller)
    for person in (*cast.values(), robot):
        person.make_key()
    forge = place / "forge.git"
    terminal.run(("git", "init", "--quiet", "--bare", f"--initial-branch={people.BRANCH}", str(forge)), place)
    approval = fresh_policy(example, {**cast, _ROBOT: robot})
    if cluster:
        approval = with_cluster(approval, place)
    genesis = _found(place, example, approval, cast[_FOUNDER], forge)
    for name, person in cast.items():
        if name != _FOUNDER:
            person.make_clone(str(forge))
    _configure(beside, rules, forge, genesis, place / "machines")
    daemon = watching.Daemon(beside, terminal, interruptions)
    with ExitStack() as stack:
        plane = None
        if cluster:
            with teller.waiting("a control plane comes up"):
                made = control_plane.running(place / "cluster", terminal, interruptions)
                plane = stack.enter_context(made)
        stack.callback(daemon.stop)
        yield Stage(place, cast, daemon, terminal, teller, genesis, time.monotonic() - begun, plane)


def check(example: Path) -> None:
    for program in ("git", "ssh-keygen"):
        if shutil.which(program) is None:
            raise errors.ConfigError("demo", f"{program} is not installed", fix="install git and an SSH client")
    if not (example / policy.PATH).is_file():
        fix = "run scripts/demo in a checkout, or name the folder: --example DIR"
        raise errors.ConfigError("demo", "the example repository is not here", where=str(example), fix=fix)


def fresh_policy(example: Path, cast: Mapping[str, people.Person]) -> bytes:
    """The example's policy with the key of each person, by name, and dates around now."""
    blob = (example / policy.PATH).read_bytes()
    rules, text = policy.parse_policy(blob), blob.decode()
    for name, person in cast.items():
        (old,) = (rules.people.get(name) or rules.robots[name]).keys
        kind, public = person.public()
        text = text.replace(old.id, signature.key_id(f"{kind} {public}")).replace(old.public, public)
    now = datetime.now(UTC)
    for field, at in (("notBefore", now - timedelta(hours=1)), ("notAfter", now + _LIFETIME)):
        text = re.sub(rf'{field}: "[^"]*"', f'{field}: "{at:%Y-%m-%dT%H:%M:%SZ}"', text)
    return text.encode()


def with_cluster(approval: bytes, place: Path) -> bytes:
    """The policy in which `dev` may also reach loopback, and read the files that the demo keeps for it.

    Raises: ConfigError where the example's policy is another than ours.
    """
    old = 'dev: {secrets: ["vault:kv/dev/**"], endpoints: ["*.dev.bank.example", "localhost"]}'
    new = old.replace("/**", f'/**", "file:{place}/cluster/*", "file:{place}/daemon/*').replace(
        '"localhost"', '"localhost", "127.0.0.1"'
    )
    if old.encode() not in approval:
        raise errors.ConfigError("demo", "the example's policy has another environment `dev`", where=policy.PATH)
    return approval.replace(old.encode(), new.encode())


def _found(place: Path, example: Path, approval: bytes, founder: people.Person, forge: Path) -> str:
    """The first commit, from a copy in which the placeholders have become what they stand for. Returns its id."""
    shutil.copytree(example, founder.clone)
    (founder.clone / policy.PATH).write_bytes(approval)
    for document in founder.clone.glob("targets/*/target.yaml"):
        document.write_text(document.read_text().replace("@ROOT@", str(place / "machines")))
        machine = place / "machines" / document.parent.name
        machine.mkdir(mode=0o700, parents=True)
    (place / "machines").chmod(0o700)
    founder.quietly("git", "init", "--quiet", f"--initial-branch={people.BRANCH}")
    founder.configure()
    founder.quietly("git", "add", "--all")
    founder.quietly("git", "commit", "--quiet", "-S", "-m", "Begin: policies and targets")
    founder.quietly("git", "remote", "add", "origin", str(forge))
    founder.quietly("git", "push", "--quiet", "--set-upstream", "origin", people.BRANCH)
    return founder.tip()


def _configure(beside: Path, rules: policy.Policy, forge: Path, genesis: str, machines: Path) -> None:
    beside.mkdir()
    signing.FileSigner.make(beside / "log_ed25519")
    document = {
        "apiVersion": "reconciler/v1",
        "kind": "Reconciler",
        "installation": INSTALLATION,
        "profile": "development",
        "state": "state",
        "source": {
            "id": rules.repository.id,
            "url": f"file://{forge}",
            "ref": rules.repository.ref,
            "genesis": genesis,
            "genesisReason": "the demo begins",
            "poll": "10s",
        },
        "store": {"signingKey": "log_ed25519"},
        "local": {"roots": [str(machines)]},
        "web": {"listen": None},
    }
    (beside / "reconciler.yaml").write_text(json.dumps(document, indent=2) + "\n")
