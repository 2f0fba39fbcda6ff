"""What holds for every test: in CI a skip is a failure, because a part that silently went missing proves nothing."""

from __future__ import annotations

import os
from collections.abc import Generator, Iterator

import pytest
from support import parts

from reconciler import redact

pytest_plugins = ["support.kube_fixtures"]  # The control plane that tests of openshift share.

IN_CI = os.environ.get("CI", "").lower() in {"1", "true", "yes"}


def pytest_report_header() -> str:
    return f"parts: {parts.found()}{'; a skip is a failure' if IN_CI else ''}"


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    if IN_CI and report.skipped and not hasattr(report, "wasxfail"):
        report.outcome = "failed"
        report.longrepr = f"skipped, and CI=true: {_reason(report)}"
    return report


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report() -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
    report = yield
    if IN_CI and report.skipped:  # A whole module that skips while it is imported.
        report.outcome = "failed"
        report.longrepr = f"skipped, and CI=true: {_reason(report)}"
    return report


def _reason(report: pytest.TestReport | pytest.CollectReport) -> str:
    match report.longrepr:
        case (str(path), int(line), str(reason)):
            return f"{path}:{line}: {reason.removeprefix('Skipped: ')}"
        case other:
            return str(other)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    reports = [r for outcome in ("passed", "failed") for r in terminalreporter.stats.get(outcome, [])]
    found = [value for r in reports for name, value in r.user_properties if name == "simulation"]
    if found:
        seeds, turns, seconds = (sum(each) for each in zip(*found, strict=True))
        terminalreporter.write_line(
            f"simulation: {seeds} seeds, {turns} turns in {seconds:.0f} s of one core: {turns / seconds * 60:.0f} turns a minute"
        )


@pytest.fixture(autouse=True)
def _secrets_end_with_their_test() -> Iterator[None]:
    """What a test resolved would be masked in every later test of its process."""
    before = redact._known
    redact._known = redact._Known()
    redact._known.add(before._forms)
    yield
    redact._known = before
