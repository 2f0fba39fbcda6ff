"""How much was simulated, at the end of a run that was started here."""

from __future__ import annotations

import pytest


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    reports = [r for outcome in ("passed", "failed") for r in terminalreporter.stats.get(outcome, [])]
    found = [value for r in reports for name, value in r.user_properties if name == "simulation"]
    if found:
        seeds, turns, seconds = (sum(each) for each in zip(*found, strict=True))
        terminalreporter.write_line(
            f"simulation: {seeds} seeds, {turns} turns in {seconds:.0f} s of one core: {turns / seconds * 60:.0f} turns a minute"
        )
