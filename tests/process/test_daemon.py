"""The daemon as users run it: `reconciler run`, real git, a real log, real files."""

from __future__ import annotations

import subprocess
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from support import installation, running

from reconciler.audit import record
from reconciler.web import client

TWO_SECONDS = 2.0  # What a user is promised; a file event is heard in tenths.


@pytest.fixture
def lab(tmp_path: Path) -> installation.Installation:
    """One vm target that genesis took over; the poll and the interval are too long to explain anything."""
    root = tmp_path / "roots" / "web"
    root.mkdir(parents=True)
    lab = installation.Installation(tmp_path, web(tmp_path, {"a": "1\n"}))
    lab.poll = "60s"
    lab.configure()
    return lab


def web(folder: Path, files: dict[str, str]) -> dict[str, bytes]:
    return installation.vm("web", folder / "roots" / "web", files, interval="60s")


@contextmanager
def started(lab: installation.Installation, *command: str) -> Iterator[running.Running]:
    """A daemon that has looked at everything once."""
    with running.Running(lab, command or running.RUN) as daemon:
        daemon.until(lambda: lab.configuration.socket.exists() and lab.events(record.Standing))
        yield daemon


def test_a_pushed_merge_is_live_within_seconds_and_a_hand_edit_is_taken_back(lab: installation.Installation) -> None:
    file = lab.roots / "web" / "b"
    with started(lab) as daemon:
        assert not file.exists(), "nothing is written before a merge touches it"
        lab.change(web(lab.folder, {"a": "1\n", "b": "2\n"}))
        daemon.until(running.holds(file, "2\n"), within_s=TWO_SECONDS)
        daemon.until(lambda: lab.outcomes("web") == ["change SUCCEEDED"])

        by_hand: tuple[Callable[[], object], ...] = (
            lambda: file.write_text("by hand"),
            file.unlink,
            lambda: file.chmod(0o600),
        )
        for number, edit in enumerate(by_hand, start=1):
            edit()
            corrected = ["change SUCCEEDED", *["drift SUCCEEDED"] * number]
            daemon.until(lambda corrected=corrected: lab.outcomes("web") == corrected, within_s=TWO_SECONDS)  # type: ignore[misc]
            assert (file.read_text(), file.stat().st_mode & 0o777) == ("2\n", 0o644)
        assert daemon.stop() == 0
    assert lab.verification().problems == ()


def test_a_target_that_cannot_be_looked_at_is_told_once_and_so_is_its_return(lab: installation.Installation) -> None:
    """It stands nowhere, since nobody knows how it is: without a line of the log nobody would hear of it."""
    root, away = lab.roots / "web", lab.roots / "away"
    with started(lab) as daemon:

        def told(words: str) -> int:
            return daemon.log.read_text().count(words)

        for _ in range(2):
            root.rename(away)
            daemon.until(lambda: told("cannot look") > told("can look"), within_s=90)  # A look comes at its interval.
            away.rename(root)
            daemon.until(lambda: told("cannot look") == told("can look"), within_s=90)
        assert told("cannot look") == 2


def test_it_answers_on_loopback_and_on_its_socket(lab: installation.Installation) -> None:
    lab.web = f"127.0.0.1:{running.free_port()}"
    lab.configure()
    with started(lab):
        for path, expected in (("livez", "ok"), ("readyz", "ok"), ("metrics", "reconciler_log_records")):
            with urllib.request.urlopen(f"http://{lab.web}/{path}", timeout=10) as answer:
                assert (answer.status, expected in answer.read().decode()) == (200, True)
        with client.Client(lab.configuration.socket) as asked:
            assert asked.ask("GET", "/targets/web")["items"][0]["name"] == "web"  # type: ignore[index,call-overload]


def test_sigterm_lets_a_running_write_end_and_be_recorded(lab: installation.Installation) -> None:
    with started(lab, running.RUN[0], str(Path(__file__).with_name("patched.py")), "slow") as daemon:
        lab.change(web(lab.folder, {"a": "1\n", "b": "2\n"}))
        daemon.until((lab.folder / "writing").exists)
        begun = time.monotonic()
        assert daemon.stop() == 0
        assert time.monotonic() - begun < 5
    assert [type(e).__name__ for e in events(lab)][-2:] == ["Intent", "Applied"]
    assert lab.converge().state.targets["web"].open is None
    assert lab.outcomes("web") == ["change SUCCEEDED"]
    assert len(lab.events(record.Intent)) == 1


def test_a_second_daemon_on_the_same_state_folder_refuses(lab: installation.Installation) -> None:
    with started(lab) as daemon:
        second = subprocess.run(
            [*running.RUN, str(lab.config_path)],
            env=installation.OUR_ENVIRONMENT,
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )
        assert second.returncode == 2
        assert "another process owns this state folder" in second.stderr
        assert "fix: stop the daemon that runs there" in second.stderr
        assert daemon.stop() == 0, "the first one is as well as before"


def test_a_killed_daemon_is_followed_by_one_that_goes_on_at_once(lab: installation.Installation) -> None:
    for number in range(3):
        with running.Running(lab) as daemon:
            merge = lab.change(web(lab.folder, {"a": "1\n", "b": f"{number}\n"}))
            content = running.holds(lab.roots / "web" / "b", f"{number}\n")
            daemon.until(content, within_s=20)  # A lease of the dead one would take 120 s to run out.
            daemon.kill()
        assert merge in {d.revision for d in lab.events(record.Decision)}
    assert lab.converge().state.targets["web"].open is None
    outcomes = lab.outcomes("web")  # One that was killed before it was confirmed may meet the next merge first.
    assert len(outcomes) == 3
    assert set(outcomes[:2]) <= {"change SUCCEEDED", "change SUPERSEDED"}
    assert outcomes[2] == "change SUCCEEDED"
    assert lab.verification().problems == ()


def events(lab: installation.Installation) -> list[record.Event]:
    return [entry.event for entry in lab.records()]
