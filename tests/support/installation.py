"""A whole installation in a folder: a served bare repository, keys, a configuration, and a daemon in this process or its own."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Mapping
from pathlib import Path

from reconciler import config, model
from reconciler.audit import signing
from reconciler.daemon import application
from reconciler.git import writing
from support import estate, objects

LIBRARY = Path(__file__).parents[2] / "policies"


class Installation:
    """`bank` makes merges in memory; `serve` puts what it pushed into the bare repository that the daemon watches."""

    def __init__(self, folder: Path, files: Mapping[str, bytes], **spec: object) -> None:
        self.folder, self.roots = folder, folder / "roots"
        self.git_dir = folder / "state.git"
        self.roots.mkdir()
        rego = {f"policies/{path.name}": path.read_bytes() for path in sorted(LIBRARY.glob("*.rego"))}
        self.bank = estate.Estate(files={**rego, **files}, spec={**estate.policy_spec(), **spec})
        subprocess.run(["git", "init", "-q", "--bare", "-b", "main", self.git_dir], check=True)
        self.serve()
        signing.FileSigner.make(folder / "log_key")
        self.config_path = folder / "reconciler.yaml"
        self.config_path.write_text(json.dumps(self.document()))

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
                "poll": "1s",
            },
            "store": {"signingKey": str(self.folder / "log_key")},
            "local": {"roots": [str(self.roots)]},
            "web": {"listen": None},
        }

    @property
    def configuration(self) -> config.Configuration:
        return config.load(self.config_path, {})

    def application(self) -> application.Application:
        return application.Application(self.configuration)

    def serve(self) -> None:
        """Objects first, then approvals, then the branch: what a forge does."""
        store = self.bank.store
        store.export(self.git_dir)
        for head in store.parents(self.bank.tip)[1:]:
            for envelope in store.envelopes(head):
                writing.write_approval(self.git_dir, head, envelope)
        self._git("update-ref", estate.REF, self.bank.tip)

    def change(self, files: objects.Files, **how: object) -> model.Oid:
        merge = self.bank.change(files, **how)  # type: ignore[arg-type]
        self.serve()
        return merge

    def _git(self, *command: str) -> None:
        subprocess.run(["git", "--git-dir", self.git_dir, *command], check=True, env={**os.environ, "LC_ALL": "C"})
