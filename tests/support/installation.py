"""A whole installation in a folder: a served bare repository, keys, a configuration, and a daemon in this process or its own.

A daemon goes by the machine's clock, so keys and approvals here are valid around now, whenever the tests run.
"""

from __future__ import annotations

import copy
import json
import os
import sqlite3
import subprocess
from collections.abc import Iterable, Mapping
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import NamedTuple, TypeVar

import yaml

from reconciler import config, errors, model
from reconciler.audit import record, signing, state, storage, verification
from reconciler.daemon import application, composing, process
from reconciler.git import writing
from support import estate, objects
from support import signing as claims

ROOT = Path(__file__).parents[2]
LIBRARY = ROOT / "policies"
OUR_ENVIRONMENT = {**os.environ, "PYTHONPATH": f"{ROOT}:{ROOT / 'tests'}"}  # of a child that imports what we import


def vm(
    name: str, root: Path, files: Mapping[str, str], *, environment: str = "dev", **spec: object
) -> dict[str, bytes]:
    """The two documents of a vm target that keeps these files, and the folders above them, below `root`."""
    fields = {"type": "vm", "environment": environment, "connection": {"transport": "local", "root": str(root)}, **spec}
    document = {"apiVersion": "reconciler/v1", "kind": "Target", "metadata": {"name": name}, "spec": fields}
    folders = {parent for path in files for parent in map(str, Path(path).parents) if parent != "."}
    payload = {
        "directories": [{"path": path, "mode": "0755"} for path in sorted(folders)],
        "files": [{"path": path, "content": content, "mode": "0644"} for path, content in files.items()],
    }
    return {
        f"targets/{name}/target.yaml": yaml.safe_dump(document).encode(),
        f"targets/{name}/vm.yaml": yaml.safe_dump(payload).encode(),
    }


E = TypeVar("E")


class End(NamedTuple):
    """What a life of the daemon left behind: what it knew, and why it could not read the source."""

    state: state.State
    unreachable: errors.ReconcilerError | None


class Installation:
    """`bank` makes merges in memory; `serve` puts what it pushed into the bare repository that the daemon watches.

    `at`: when its approvals are given; equal folders, files and times make equal commits.
    """

    def __init__(self, folder: Path, files: Mapping[str, bytes], *, at: datetime | None = None, **spec: object) -> None:
        self.folder, self.roots = folder, folder / "roots"
        self.git_dir = folder / "state.git"
        self.at = (at or datetime.now(UTC)).replace(microsecond=0)
        self.poll = "1s"
        self.web: str | None = None  # where its daemon listens beside the socket
        self.roots.mkdir(exist_ok=True)
        rego = {f"policies/{path.name}": path.read_bytes() for path in sorted(LIBRARY.glob("*.rego"))}
        self.bank = estate.Estate(files={**rego, **files}, spec=self.policy_spec(**spec))
        subprocess.run(["git", "init", "-q", "--bare", "-b", "main", self.git_dir], check=True)
        self.serve()
        signing.FileSigner.make(folder / "log_key")
        self.config_path = folder / "reconciler.yaml"
        self.configure()

    def policy_spec(self, **spec: object) -> estate.Spec:
        """The bank's policy with keys that are valid now."""
        made = copy.deepcopy({**estate.policy_spec(), **spec})
        valid = {
            f"not{n}": f"{self.at + timedelta(days=d):%Y-%m-%dT%H:%M:%SZ}" for n, d in (("Before", -90), ("After", 180))
        }
        for each in (*made["people"].values(), *made["robots"].values()):
            each["keys"] = [{**key, **valid} for key in each["keys"]]
        return made

    def document(self) -> dict[str, object]:
        return {
            "apiVersion": "reconciler/v1",
            "kind": "Reconciler",
            "installation": "lab",
            "profile": "development",
            "state": str(self.folder / "state"),
            "source": {
                "id": estate.REPOSITORY_ID,
                "url": f"file://{self.git_dir}",
                "ref": estate.REF,
                "genesis": self.bank.genesis,
                "genesisReason": "lab",
                "poll": self.poll,
            },
            "store": {"signingKey": str(self.folder / "log_key")},
            "local": {"roots": [str(self.roots)]},
            "web": {"listen": self.web},
        }

    def configure(self, **other: object) -> None:
        """Write the daemon's configuration, with these top-level fields in place of the usual ones."""
        self.config_path.write_text(json.dumps({**self.document(), **other}))

    @property
    def configuration(self) -> config.Configuration:
        return config.load(self.config_path, {})

    def application(self) -> application.Application:
        return application.Application(self.configuration)

    def serve(self) -> None:
        """Objects first, then approvals, then the branch: what a forge does."""
        self.store_tip()
        self.git("update-ref", estate.REF, self.bank.tip)

    def store_tip(self) -> None:
        store = self.bank.store
        store.export(self.git_dir)
        for head in store.parents(self.bank.tip)[1:]:
            for envelope in store.envelopes(head):
                writing.write_approval(self.git_dir, head, envelope)

    def merge(
        self,
        files: objects.Files,
        author: str = "alice",
        approvers: Iterable[str] = estate.SRE,
        *,
        signer: str = "forge",
    ) -> model.Oid:
        """Branch, merge and approve; stored where the daemon fetches, but not yet on the watched branch."""
        bank = self.bank
        merge = bank.merge(bank.branch(files, author), signer=signer)
        bank.approve(merge, *approvers, **self.approval_times())
        bank.push(merge)
        self.store_tip()
        return merge

    def approval_times(self) -> claims.ClaimFields:
        return {"issued_at": self.at, "expires_at": self.at + timedelta(days=7)}

    def change(
        self,
        files: objects.Files,
        author: str = "alice",
        approvers: Iterable[str] = estate.SRE,
        *,
        signer: str = "forge",
    ) -> model.Oid:
        merge = self.merge(files, author, approvers, signer=signer)
        self.serve()
        return merge

    def git(self, *command: str) -> None:
        subprocess.run(["git", "--git-dir", self.git_dir, *command], check=True, env={**os.environ, "LC_ALL": "C"})

    # --- one pass in this process ---

    def converge(self, *, within_s: float = 30) -> End:
        """One life of a daemon that ends when nothing moves any more."""
        with process.owning(self.configuration.state):
            app = self.application()
            try:
                passing = process.Pass(app)
                assert passing.run(within_s=within_s), "the pass did not come to an end"
                return End(app.state(), passing.unreachable)
            finally:
                app.close()

    # --- what is recorded ---

    @property
    def database(self) -> Path:
        return self.folder / "state" / "audit.db"

    def records(self) -> tuple[record.Record, ...]:
        """As they lie in the file, whoever writes there meanwhile; none before there is a log."""
        if not self.database.exists():
            return ()
        with closing(sqlite3.connect(f"file:{self.database}?mode=ro", uri=True)) as connection:
            there = connection.execute("SELECT 1 FROM sqlite_schema WHERE name = 'log'").fetchall()
            rows = connection.execute("SELECT body FROM log ORDER BY seq").fetchall() if there else []
        return tuple(record.Record.model_validate_json(body) for (body,) in rows)

    def events(self, kind: type[E]) -> list[E]:
        return [entry.event for entry in self.records() if isinstance(entry.event, kind)]

    def outcomes(self, target: str) -> list[str]:
        """Its deployments in order: cause and how each closed."""
        causes = {each.deployment: each.cause for each in self.events(record.Intent)}
        return [f"{causes[o.deployment]} {o.closed}" for o in self.events(record.Outcome) if o.target == target]

    def verification(self) -> verification.Report:
        configuration = self.configuration
        engine = storage.make_engine(configuration.store_url)
        signer = signing.FileSigner.read(configuration.store.signing_key)
        try:
            return verification.verify(engine, signer.public, composing.origin(configuration))
        finally:
            engine.dispose()
