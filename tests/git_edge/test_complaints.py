"""Of what a failing git prints, the cause is told: not the sentence that it always ends with, and nothing of the remote's."""

from __future__ import annotations

import pytest

from reconciler.git import complaints

END = """fatal: Could not read from remote repository.

Please make sure you have the correct access rights
and the repository exists.
"""


@pytest.mark.parametrize(
    ("stderr", "told", "advised"),
    [
        (
            f"git@git.bank.example: Permission denied (publickey).\n{END}",
            "git@git.bank.example: Permission denied (publickey).",
            "source.auth.sshKey",
        ),
        (
            (
                "No ED25519 host key is known for git.bank.example and you have requested strict checking.\n"
                f"Host key verification failed.\n{END}"
            ),
            "No ED25519 host key is known for git.bank.example and you have requested strict checking.",
            "source.auth.knownHosts",
        ),
        (
            (
                "@ WARNING: REMOTE HOST IDENTIFICATION HAS CHANGED! @\n"
                "Host key for git.bank.example has changed and you have requested strict checking.\n"
                f"Host key verification failed.\n{END}"
            ),
            "Host key for git.bank.example has changed and you have requested strict checking.",
            "before source.auth.knownHosts is changed",
        ),
        (
            f"ssh: Could not resolve hostname git.bank.example: Name or service not known\n{END}",
            "ssh: Could not resolve hostname git.bank.example: Name or service not known",
            "source.url",
        ),
        (
            (
                "error: object 1234abcd: hasDotgit: contains '.git'\nfatal: fsck error in packed object\n"
                "fatal: fetch-pack: invalid index-pack output\n"
            ),
            "error: object 1234abcd: hasDotgit: contains '.git'",
            "make the commit that holds it again",
        ),
        (
            "fatal: Out of memory, malloc failed (tried to allocate 4294967297 bytes)\nfatal: index-pack failed\n",
            "fatal: Out of memory, malloc failed (tried to allocate 4294967297 bytes); fatal: index-pack failed",
            "off the branch",
        ),
        (END, "fatal: Could not read from remote repository.", "reachable"),
        (f"remote: buy now\nERROR: look here\n{END}", "fatal: Could not read from remote repository.", "reachable"),
        ("remote: nothing of ours\n", "exit code 128", "reachable"),
        ("fatal: \x1b[2Jx\n", "fatal: ?[2Jx", "reachable"),
    ],
)
def test_the_cause_is_told_with_what_to_do(stderr: str, told: str, advised: str) -> None:
    assert complaints.telling(stderr, 128) == told
    assert advised in complaints.advice(told)


def test_much_that_is_said_is_cut() -> None:
    assert len(complaints.telling("".join(f"error: {n}{'x' * 999}\n" for n in range(9)), 1)) < 300
