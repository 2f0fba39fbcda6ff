"""The people of the story: a fresh SSH key and a clone each, and what they do with them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from reconciler.cli.demo import shell, telling

BRANCH = "main"


@dataclass(frozen=True)
class Person:
    name: str
    full_name: str
    email: str
    home: Path
    terminal: shell.Shell
    teller: telling.Teller

    @property
    def key(self) -> Path:
        return self.home / "id_ed25519"

    @property
    def clone(self) -> Path:
        return self.home / "state"

    def make_key(self) -> None:
        self.home.mkdir(parents=True)
        comment = ("-C", self.email)
        self.quietly("ssh-keygen", "-q", "-t", "ed25519", "-N", "", *comment, "-f", str(self.key), cwd=self.home)

    def public(self) -> tuple[str, str]:
        """Type and base64 of the blob."""
        kind, blob, *_ = self.key.with_name(f"{self.key.name}.pub").read_text().split()
        return kind, blob

    def make_clone(self, url: str) -> None:
        """As docs/how-to/engineer.md says it."""
        options = (part for name, value in self._settings().items() for part in ("--config", f"{name}={value}"))
        self.quietly("git", "clone", "--quiet", *options, url, str(self.clone), cwd=self.home)

    def configure(self) -> None:
        """The same for a clone that is there."""
        for name, value in self._settings().items():
            self.quietly("git", "config", name, value)

    def _settings(self) -> dict[str, str]:
        return {
            "user.name": self.full_name,
            "user.email": self.email,
            "gpg.format": "ssh",
            "user.signingKey": f"{self.key}.pub",
            "gc.auto": "0",
        }

    # --- at the terminal ---

    def types(self, *command: str, exits: int = 0) -> str:
        """Show the command, run it, return what it printed; it must end with `exits`."""
        self.teller.typed(self.name, command)
        with self.teller.waiting(command[0]):
            return self.terminal.run(command, self.clone).expect(exits, command).out

    def quietly(self, *command: str, cwd: Path | None = None) -> str:
        """The same, where showing it would tell nobody anything."""
        return self.terminal.run(command, cwd or self.clone).expect(0, command).out.strip()

    def tip(self, revision: str = "HEAD") -> str:
        return self.quietly("git", "rev-parse", "--verify", revision)

    def edit(self, edits: Mapping[str, tuple[str, str] | str]) -> None:
        """What an editor would do. path -> (old, new), or the whole new content."""
        for path, edit in edits.items():
            file = self.clone / path
            before = file.read_text() if file.exists() else ""
            if isinstance(edit, tuple) and edit[0] not in before:
                raise telling.SceneFailedError(f"{path} does not hold {edit[0]!r}")
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(edit if isinstance(edit, str) else before.replace(*edit, 1))

    def branches(self, branch: str) -> None:
        self.quietly("git", "fetch", "--quiet", "origin")
        self.quietly("git", "switch", "--quiet", "--create", branch, f"origin/{BRANCH}")

    def commits(self, branch: str, message: str, edits: Mapping[str, tuple[str, str] | str]) -> str:
        """A branch with one signed commit, pushed: a pull request, as far as Git is concerned. Returns its head."""
        self.branches(branch)
        return self.commits_here(branch, message, edits)

    def commits_here(self, branch: str, message: str, edits: Mapping[str, tuple[str, str] | str]) -> str:
        self.edit(edits)
        self.quietly("git", "add", "--all")
        self.types("git", "commit", "-S", "-m", message)
        self.types("git", "push", "origin", branch)
        return self.tip()

    def merges(self, head: str) -> str:
        """`reconciler merge`: what would be refused is not merged. Returns the merge."""
        self.quietly("git", "fetch", "--quiet", "origin", "+refs/approvals/*:refs/approvals/*")
        self.types("reconciler", "merge", head, "--key", "../id_ed25519", "--push")
        return self.lands()

    def merges_by_hand(self, branch: str, *options: str) -> str:
        """git's own merge: what it may not bring in, the daemon alone keeps out."""
        self.quietly("git", "fetch", "--quiet", "origin")
        self.quietly("git", "switch", "--quiet", BRANCH)
        self.quietly("git", "reset", "--quiet", "--hard", f"origin/{BRANCH}")
        self.types("git", "merge", "--no-ff", *options, "-m", f"Merge {branch}", branch)
        self.types("git", "push", "origin", BRANCH)
        return self.tip()

    def lands(self) -> str:
        self.quietly("git", "fetch", "--quiet", "origin")
        return self.tip(f"origin/{BRANCH}")


def approve(head: str, people: Sequence[Person], *options: str) -> list[str]:
    """Each in their own clone, at the same time."""
    command = ("reconciler", "approve", head, "--key", "../id_ed25519", "--yes", "--push", *options)
    for person in people:
        person.teller.typed(person.name, command)
        person.quietly("git", "fetch", "--quiet", "origin")
    with people[0].teller.waiting("approve"):
        finished = people[0].terminal.run_together([(command, person.clone) for person in people])
    return [each.expect(0, command).out for each in finished]
