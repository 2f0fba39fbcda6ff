"""The order of the story, each scene with the sentence that says why it matters; and how it begins."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import NamedTuple

from reconciler.cli.demo import aftermath, on_a_cluster, scenes
from reconciler.cli.demo.stage import Stage


class Act(NamedTuple):
    title: str
    why: str
    play: Callable[[Stage], None]


class Start(NamedTuple):
    """Seconds from the start of the daemon's process."""

    first_s: float
    all_s: float


STORY = (
    Act(
        "a signed and approved merge converges",
        "A change reaches a machine only as a merge that is signed and that enough other people have approved.",
        scenes.signed_and_approved,
    ),
    Act(
        "an unsigned merge is refused",
        "Being able to push is not enough: what nobody signed changes nothing, and the way on is itself approved.",
        scenes.unsigned,
    ),
    Act(
        "a self-approved change is held",
        "Four eyes means two people: an author's own approval never counts, whatever tool made it.",
        scenes.self_approved,
    ),
    Act(
        "a change that breaks a policy is blocked at its target",
        "Approvers overlook things: a gate says which file and line, and nobody else has to wait for the repair.",
        scenes.policy_broken,
    ),
    Act(
        "a hand edit on a target is put right",
        "What runs is what was approved, also after somebody logged in and changed it.",
        scenes.edited_by_hand,
    ),
    Act(
        "a bad change is rolled back by itself",
        "A release that says it is not well must not wait for a person; Git is made to agree afterwards.",
        aftermath.rolled_back,
    ),
    Act(
        "killed in the middle, the daemon finishes what it began",
        "Power fails in the middle of a deployment: what was written is known, and is not written twice.",
        aftermath.killed,
    ),
    Act(
        "the audit log shows that it was altered",
        "An auditor must be able to trust the record more than the people who run the machine it lies on.",
        aftermath.tampered,
    ),
)

ON_A_CLUSTER = (
    Act(
        "an approved merge reaches the cluster",
        "What runs in a cluster is what enough people approved; a secret is named in Git, and is only in the cluster.",
        on_a_cluster.land_on_it,
    ),
    Act(
        "a hand edit on the cluster is put right at once",
        "The cluster itself says when something moved: nobody waits for the next poll.",
        on_a_cluster.put_right,
    ),
    Act(
        "what Git no longer says goes, and nothing else",
        "Only what we wrote, by name and by identity, is ever deleted.",
        on_a_cluster.prune,
    ),
)


def converge(stage: Stage) -> Start:
    """Start the daemon and wait until all targets are what the first commit says."""
    people = ", ".join(stage.people)
    stage.teller.fact(f"{len(stage.people)} people ({people}), a repository, five targets: {stage.set_up_s:.1f} s")
    stage.teller.typed("operator", (*stage.daemon.command, "--converge"))
    started, first_s = time.monotonic(), 0.0
    stage.daemon.start("--converge")

    def look() -> bool:
        nonlocal first_s
        rows = stage.daemon.rows("/targets")
        there = [row for row in rows if row["sync"] == "Synced" and row["health"] == "Healthy"]
        if there and not first_s:
            first_s = time.monotonic() - started
        return bool(rows) and len(there) == len(rows)

    with stage.teller.waiting("the daemon reads its policies, then brings every target to what the first commit says"):
        stage.daemon.until("every target is Synced and Healthy", look)
    start = Start(first_s, time.monotonic() - started)
    stage.teller.fact(f"the first target converged after {start.first_s:.1f} s, all of them after {start.all_s:.1f} s")
    return start
