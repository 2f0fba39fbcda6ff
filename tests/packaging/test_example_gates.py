"""What the demo shows about gates, on the repository that it shows it with."""

from __future__ import annotations

import importlib.metadata
from functools import partial
from pathlib import Path

import pytest
from support import objects

from reconciler import documents, model, ports
from reconciler.admission import policy
from reconciler.daemon import clock
from reconciler.secrets import resolving

EXAMPLE = Path(__file__).parents[2] / "examples/repo"
REQUIRED = policy.parse_policy((EXAMPLE / "policies/approval.yaml").read_bytes()).gates.required["prod"]


def _check(root: Path, gate: str, **edited: tuple[str, str]) -> model.GateResult:
    """Run one gate on every target, as if a merge had brought them all. `edited`: path -> (old, new)."""
    files = {
        str(path.relative_to(EXAMPLE)): path.read_bytes().replace(b"@ROOT@", str(root).encode())
        for path in EXAMPLE.rglob("*")
        if path.is_file()
    }
    for path, (old, new) in edited.items():
        assert old.encode() in files[path]
        files[path] = files[path].replace(old.encode(), new.encode(), 1)
    store = objects.ObjectStore()
    revision = store.make_commit(files)
    after = {}
    for name in documents.target_names(store.tree(revision)):
        read = documents.read_target(store, revision, name)
        assert read is not None
        after[name] = read.desired
    change = model.Change(
        revision=revision, head=None, policies=revision, targets=frozenset(after), before={}, after=after
    )
    return _gate(gate, store, root).check(change, 60)


def _gate(name: str, store: objects.ObjectStore, root: Path) -> ports.Gate:
    time = clock.SystemClock()
    facilities = ports.DriverFacilities(
        installation="example", state=root / ".state", local_roots=(root,), secrets=resolving.Secrets({}), clock=time
    )
    points = importlib.metadata.entry_points(group="reconciler.targets")
    drivers = {point.name: partial(point.load(), facilities) for point in points}
    (point,) = importlib.metadata.entry_points(group="reconciler.gates", name=name)
    gate: ports.Gate = point.load()(
        model.Check(gate=name),
        ports.GateFacilities(repository=store, drivers=drivers, clock=time, production=False),
    )
    return gate


@pytest.mark.parametrize("gate", REQUIRED)
def test_every_gate_that_production_requires_lets_the_example_through(tmp_path: Path, gate: str) -> None:
    result = _check(tmp_path, gate)
    assert (result.outcome, result.findings if gate != "opa" else ()) == (model.Outcome.PASS, ())


def test_a_file_that_everybody_may_write_is_refused_with_its_line(tmp_path: Path) -> None:
    path = "targets/ledger-config/vm.yaml"
    result = _check(
        tmp_path, "opa", **{path: ('files/20-retention.conf, mode: "0644"', 'files/20-retention.conf, mode: "0666"')}
    )
    assert result.outcome is model.Outcome.FAIL
    assert [finding.where for finding in result.findings if finding.where.startswith(path)] == [f"{path}:5"]


def test_an_environment_that_the_policy_does_not_know_is_refused(tmp_path: Path) -> None:
    result = _check(
        tmp_path, "schema", **{"targets/dev-sandbox/target.yaml": ("environment: dev", "environment: test")}
    )
    assert result.outcome is model.Outcome.FAIL
    assert any(finding.where.startswith("targets/dev-sandbox/target.yaml:") for finding in result.findings)
