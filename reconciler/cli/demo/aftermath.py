"""Scenes 6 to 8: what becomes of a sick change, of a killed daemon, and of an altered log."""

from __future__ import annotations

from collections import Counter

from reconciler.cli import exit_codes, printing
from reconciler.cli.demo import people, tampering
from reconciler.cli.demo.scenes import LEDGER, PAYMENTS, expect
from reconciler.cli.demo.stage import INSTALLATION, Stage
from reconciler.cli.demo.watching import Row

STATUS = "targets/payments-api/files/status"
FILES = 80  # each waits for the one before it: as many stages
KILL_AFTER = 12  # of them


def rolled_back(stage: Stage) -> None:
    alice, bob, grace = (stage.people[name] for name in ("alice", "bob", "grace"))
    status = stage.machine(PAYMENTS) / "status"
    before = status.read_text()
    head = alice.commits("release-42", "payments-api: release 42", {STATUS: "release 42: cannot reach the ledger\n"})
    people.approve(head, [bob, grace])
    merge = alice.merges_by_hand("release-42", "-S")
    stage.daemon.until(f"{PAYMENTS} stands failed", lambda: stage.daemon.target(PAYMENTS)["standing"] == "failed")
    listed = alice.types("reconciler", "get", "deployments", "--target", PAYMENTS)
    stage.teller.came("\n".join(listed.splitlines()[-2:]))
    rows = {(row["revision"], row["outcome"], row["rolledBack"]) for row in stage.daemon.rows("/deployments")}
    expect(stage, "it failed, and is rolled back", holds=(merge, "FAILED", True) in rows)
    expect(stage, f"the machine says again: {before.strip()}", holds=status.read_text() == before)
    alice.branches("revert-42")
    alice.types("git", "revert", "--no-edit", "-S", "-m", "1", merge)
    alice.types("git", "push", "origin", "revert-42")
    people.approve(alice.tip(), [bob])
    back = alice.merges_by_hand("revert-42", "-S")
    stage.daemon.until_converged(PAYMENTS, back)
    rules = (stage.daemon.revision(back) or {}).get("rules")
    expect(stage, "one approval was enough, by the rule for rollbacks", holds="rollback" in str(rules))
    stage.teller.came(alice.types("reconciler", "get", "targets"), only=f"NAME|{PAYMENTS}")


def killed(stage: Stage) -> None:
    alice, bob, heidi = (stage.people[name] for name in ("alice", "bob", "heidi"))
    names = [f"conf.d/account-{number:02}.conf" for number in range(FILES)]
    document = f"targets/{LEDGER}/vm.yaml"
    bob.branches("accounts")
    mended = (bob.clone / document).read_text().replace('"0666"', '"0644"')
    head = bob.commits_here("accounts", f"ledger-config: {FILES} accounts", {document: mended + _chain(names)})
    people.approve(head, [alice, heidi])
    merge = bob.merges_by_hand("accounts", "-S")

    def under_way() -> Row | None:
        return next((row for row in _deployments(stage, merge) if int(str(row["stages"])) > KILL_AFTER), None)

    deployment = str(stage.daemon.until(f"{KILL_AFTER} stages were written", under_way, every_s=0.01)["id"])
    pid = stage.daemon.kill()
    stage.teller.typed("operator", ("kill", "-9", str(pid)))
    written = {name: _written(stage, name) for name in names if (stage.machine(LEDGER) / name).exists()}
    listed = alice.types("reconciler", "get", "deployments", "--target", LEDGER)
    stage.teller.came(listed, only=deployment)
    expect(stage, f"{len(written)} of {FILES} files are there", holds=0 < len(written) < FILES)
    stage.teller.typed("operator", stage.daemon.command)
    stage.daemon.start()
    stage.daemon.until_converged(LEDGER, merge)
    (row,) = _deployments(stage, merge)
    expect(stage, f"the same deployment went on and is {row['outcome']}", holds=row["id"] == deployment)
    applied = alice.types("reconciler", "audit", "query", "--deployment", deployment, "--type", "applied")
    stage.teller.came("\n".join(applied.splitlines()[-2:]))
    changed, found = _written_by_log(stage, deployment)
    times = changed + found
    expect(
        stage,
        f"the log: {len(changed)} keys CHANGED, {len(found)} found written after the kill, none of them twice",
        holds=set(times.values()) == {1} and set(times) == {f"file//{name}" for name in names},
    )
    untouched = all(_written(stage, name) == before for name, before in written.items())
    expect(stage, f"the {len(written)} files from before were not touched again", holds=untouched)


def tampered(stage: Stage) -> None:
    auditor = stage.people["erin"]
    stage.teller.came(auditor.types("reconciler", "audit", "verify"))
    copy = stage.folder / "copy.db"
    tampering.copy(stage.database, copy)
    refused = stage.daemon.records("decision", verdict="REJECT")[0]
    seq = int(str(refused["seq"]))
    tampering.rewrite(copy, seq, '"verdict":"REJECT"', '"verdict":"ACCEPT"')
    stage.teller.fact(f"in a copy, record {seq} now says that the unsigned merge was accepted")
    public = ("--public-key", f"{stage.log_key}.pub", "--origin", f"reconciler/{INSTALLATION}")
    said = auditor.types("reconciler", "audit", "verify", "--db", str(copy), *public, exits=exit_codes.BROKEN)
    stage.teller.came(said, only="BROKEN|NOT")
    expect(stage, f"it names record {seq}", holds=f"{seq}" in said.splitlines()[0])


def _chain(names: list[str]) -> str:
    """Entries of `files`, each after the one before."""
    lines = []
    for number, name in enumerate(names):
        after = f", after: [{names[number - 1]}]" if number else ""
        lines.append(f'  - {{path: {name}, content: "account = {number}\\n", mode: "0644"{after}}}\n')
    return "".join(lines)


def _deployments(stage: Stage, merge: str) -> list[Row]:
    return [row for row in stage.daemon.rows("/deployments", target=LEDGER) if row["revision"] == merge]


def _written(stage: Stage, name: str) -> tuple[int, int]:
    """Which file it is, and when it was written: a second write would be another."""
    found = (stage.machine(LEDGER) / name).stat()
    return found.st_ino, found.st_mtime_ns


def _written_by_log(stage: Stage, deployment: str) -> tuple[Counter[str], Counter[str]]:
    """How often each key was CHANGED; and found written, where the daemon was killed before it could record that."""
    changed, found = Counter[str](), Counter[str]()
    for entry in stage.daemon.records("applied", deployment=deployment):
        event = entry["event"]
        if not isinstance(event, dict):
            continue
        changed.update(str(each["key"]) for each in printing.listed(event["results"]) if each["effect"] == "CHANGED")
        if event["recovered"] and isinstance(event["owned"], dict):
            found.update(key for key, identity in event["owned"].items() if identity)
    return changed, found
