"""Scenes 1 to 5: who gets in, what is let through, what is kept as it should be. Each function is the scene, top to bottom."""

from __future__ import annotations

from reconciler.cli import exit_codes
from reconciler.cli.demo import own_approval, people, telling
from reconciler.cli.demo.stage import Stage

CONF = "targets/payments-api/files/app.conf"
LIMITS = "targets/payments-api/files/limits.yaml"
PAYMENTS, LEDGER, FRAUD, SANDBOX = "payments-api", "ledger-config", "fraud-rules", "dev-sandbox"
_MODE = 0o644  # of each file of ledger-config, before and after


def expect(stage: Stage, fact: str, *, holds: bool) -> None:
    """Show what was looked at.

    Raises: SceneFailedError where it is not so.
    """
    if not holds:
        raise telling.SceneFailedError(f"it is not so: {fact}")
    stage.teller.fact(fact)


def signed_and_approved(stage: Stage) -> None:
    alice, bob, grace = (stage.people[name] for name in ("alice", "bob", "grace"))
    head = alice.commits(
        "ledger-timeout", "payments-api: wait 5 s for the ledger", {CONF: ("timeout_s = 3", "timeout_s = 5")}
    )
    people.approve(head, [bob, grace])
    merge = alice.merges(head)
    stage.daemon.until_converged(PAYMENTS, merge)
    written = (stage.machine(PAYMENTS) / "etc/payments/app.conf").read_text()
    expect(stage, "the machine's app.conf says ledger_timeout_s = 5", holds="timeout_s = 5" in written)
    traced = alice.types("reconciler", "trace", PAYMENTS, "file//etc/payments/app.conf")
    stage.teller.came(traced, only="merge |written by|approved:")


def unsigned(stage: Stage) -> None:
    alice, bob, dan, erin, frank = (stage.people[name] for name in ("alice", "bob", "dan", "erin", "frank"))
    before = (stage.machine(PAYMENTS) / "etc/payments/limits.yaml").read_bytes()
    accepted = alice.lands()
    alice.branches("limits")
    alice.edit({LIMITS: ("singlePayment: 50000", "singlePayment: 5000000")})
    alice.types("git", "commit", "--no-gpg-sign", "-am", "raise the limit")
    bad = alice.merges_by_hand("limits", "--no-gpg-sign")
    codes = str(stage.daemon.until_judged(bad, "REJECT")["codes"])
    expect(stage, "the daemon rejects it for what it is: unsigned_merge", holds="unsigned_merge" in codes)
    stage.teller.came(alice.types("reconciler", "get", "revisions"), only=bad[:12])
    now = (stage.machine(PAYMENTS) / "etc/payments/limits.yaml").read_bytes()
    expect(stage, "the machine's limits.yaml is what it was", holds=before == now)
    dan.quietly("git", "fetch", "--quiet", "origin")
    prepared = dan.types("reconciler", "recover", "--key", "../id_ed25519", "--push")
    stage.teller.came(prepared, only="REJECT|^back")
    people.approve("origin/recovery", [bob, erin, frank], "--after", accepted)
    dan.quietly("git", "fetch", "--quiet", "origin", "+refs/approvals/*:refs/approvals/*")
    dan.types("reconciler", "merge", "recovery", "--after", accepted, "--key", "../id_ed25519", "--push")
    recovery = dan.lands()
    row = stage.daemon.until_judged(recovery, "ACCEPT")
    names = ", ".join(sorted(telling.approvers(row)))
    expect(stage, f"the recovery merge is accepted, approved by {names}", holds=names == "bob, erin, frank")


def self_approved(stage: Stage) -> None:
    alice, bob = stage.people["alice"], stage.people["bob"]
    accepted = alice.lands()
    head = alice.commits(
        "motd", "dev-sandbox: say it nicer", {"targets/dev-sandbox/vm.yaml": ("when this breaks", "if this breaks")}
    )
    refused = alice.types(
        "reconciler", "approve", head, "--key", "../id_ed25519", "--yes", "--push", exits=exit_codes.UNAPPROVED
    )
    stage.teller.came(refused, only="^error")
    own_approval.sign(alice, head)
    stage.teller.fact("so alice signs the statement by hand, and pushes that")
    alice.types("reconciler", "merge", head, "--key", "../id_ed25519", "--before-approval", "--push")
    merge = alice.lands()
    row = stage.daemon.until_judged(merge, "HOLD")
    stage.teller.came(alice.types("reconciler", "get", "revisions"), only=merge[:12])
    expect(stage, "her own signature does not count", holds="self_approval" in str(row["codes"]))
    people.approve(head, [bob], "--after", accepted)
    stage.daemon.until_converged(SANDBOX, merge)
    written = (stage.machine(SANDBOX) / "notes/motd").read_text()
    expect(stage, "with bob's approval the same merge goes in, and is there", holds="if this breaks" in written)


def policy_broken(stage: Stage) -> None:
    alice, bob, heidi = (stage.people[name] for name in ("alice", "bob", "heidi"))
    retention = 'files/20-retention.conf, mode: "0644"'
    head = bob.commits(
        "retention-mode",
        "ledger-config: let the batch user write",
        {f"targets/{LEDGER}/vm.yaml": (retention, retention.replace("0644", "0666"))},
    )
    people.approve(head, [alice, heidi])
    blocked = bob.merges_by_hand("retention-mode", "-S")
    stage.daemon.until(f"{LEDGER} stands uncleared", lambda: stage.daemon.target(LEDGER)["standing"] == "uncleared")
    said = bob.types("reconciler", "get", "gates", "--revision", blocked)
    stage.teller.came(said, only="FAIL")
    expect(stage, f"the finding names targets/{LEDGER}/vm.yaml:5", holds=f"targets/{LEDGER}/vm.yaml:5" in said)
    mode = (stage.machine(LEDGER) / "conf.d/20-retention.conf").stat().st_mode & 0o7777
    expect(stage, f"the machine's file still has mode {mode:04o}", holds=mode == _MODE)
    head = alice.commits(
        "velocity", "fraud-rules: four a minute", {f"targets/{FRAUD}/resources.yaml": ("perMinute: 5", "perMinute: 4")}
    )
    people.approve(head, [bob, heidi])
    merge = alice.merges_by_hand("velocity", "-S")
    stage.daemon.until_converged(FRAUD, merge)
    stage.teller.came(alice.types("reconciler", "get", "targets"), only=f"NAME|{FRAUD}|{LEDGER}")


def edited_by_hand(stage: Stage) -> None:
    alice, machine = stage.people["alice"], stage.machine(PAYMENTS) / "etc/payments/limits.yaml"
    before = machine.read_bytes()
    seen = len(stage.daemon.records("drift", target=PAYMENTS))
    stage.teller.typed("root@payments-api", ("echo", "singlePayment: 9000000", ">>", "etc/payments/limits.yaml"))
    with machine.open("a") as file:
        file.write("singlePayment: 9000000\n")
    stage.daemon.until("the drift is found", lambda: len(stage.daemon.records("drift", target=PAYMENTS)) > seen)
    stage.daemon.until("the file is as it was", lambda: machine.read_bytes() == before)
    drift = stage.daemon.records("drift", target=PAYMENTS)[-1]
    stage.daemon.until(
        "the correction is on record",
        lambda: stage.daemon.records("outcome", target=PAYMENTS, after=str(drift["seq"])),
    )
    found = alice.types("reconciler", "history", PAYMENTS)
    stage.teller.came("\n".join(found.splitlines()[-4:]))
    row = stage.daemon.target(PAYMENTS)
    expect(stage, f"{PAYMENTS} is {row['sync']} and {row['health']}", holds=row["sync"] == "Synced")
