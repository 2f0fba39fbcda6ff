"""A log that cannot be written, or that belongs to another daemon by now: nothing is written anywhere else either."""

from __future__ import annotations

import sys
from datetime import datetime, timedelta
from pathlib import Path

import pytest
from support import installation, running

from reconciler import errors
from reconciler.audit import record
from reconciler.daemon import clock, process

PATCHED = (sys.executable, str(Path(__file__).with_name("patched.py")))


@pytest.fixture
def lab(tmp_path: Path) -> installation.Installation:
    (tmp_path / "roots" / "web").mkdir(parents=True)
    return installation.Installation(tmp_path, web(tmp_path, "1\n"))


def web(folder: Path, content: str) -> dict[str, bytes]:
    return installation.vm("web", folder / "roots" / "web", {"a": content})


def test_a_full_disk_before_the_intent_ends_the_process_and_touches_no_target(lab: installation.Installation) -> None:
    (lab.folder / "full").touch()
    lab.change(web(lab.folder, "2\n"))
    with running.Running(lab, (*PATCHED, "full")) as daemon:
        assert daemon.process.wait(timeout=30) == 7
        said = daemon.log.read_text()
    assert "error: the audit log could not be written" in said
    assert "code: log_append" in said
    assert list((lab.roots / "web").iterdir()) == []
    assert lab.events(record.Intent) == []
    assert lab.verification().problems == ()

    (lab.folder / "full").unlink()
    with running.Running(lab, (*PATCHED, "full")) as daemon:
        daemon.until(running.holds(lab.roots / "web" / "a", "2\n"))
        daemon.until(lambda: lab.outcomes("web") == ["change SUCCEEDED"])
        assert daemon.stop() == 0
    assert lab.verification().problems == ()


class Later(clock.SystemClock):
    """Half an hour on, when it is told so: the lease of whoever sleeps has run out."""

    ahead = timedelta(0)

    def now(self) -> datetime:
        return super().now() + self.ahead


def test_a_daemon_that_lost_its_leases_writes_nothing_and_ends(
    lab: installation.Installation, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = {"signingKey": str(lab.folder / "log_key"), "url": f"sqlite:///{lab.folder}/shared.db"}
    lab.configure(store=store)
    first = lab.application()
    assert process.Pass(first).run(within_s=30)
    lab.configure(store=store, state=str(lab.folder / "other"))
    monkeypatch.setattr(clock, "SystemClock", Later)
    second = lab.application()

    held_off = process.Pass(second)
    assert held_off.run(within_s=30)
    assert (held_off.unreachable or errors.ConfigError("", "")).code == "leased", "while the first one lives"

    monkeypatch.setattr(Later, "ahead", timedelta(minutes=30))
    lab.change(web(lab.folder, "2\n"))
    assert process.Pass(second).run(within_s=30)
    file = lab.roots / "web" / "a"
    assert file.read_text() == "2\n"

    file.write_text("by hand\n")
    lab.change(web(lab.folder, "3\n"))
    with pytest.raises(errors.AuditError) as lost:
        process.Pass(first).run(within_s=30)
    assert lost.value.code == "lease_lost"
    assert file.read_text() == "by hand\n"
    assert process.Pass(second).run(within_s=30)
    assert file.read_text() == "3\n"
    second.close()
    first.close()
    assert lab.verification().problems == ()
