"""The reference driver: its document, its dead-man, and a world that outlives the process."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from reconciler import errors, model, ports
from reconciler.targets import memory

KEY = model.Key("item/demo/a")


class Clock:
    def __init__(self) -> None:
        self.passed_s = 0.0

    def now(self) -> datetime:
        return datetime(2026, 11, 24, tzinfo=UTC) + timedelta(seconds=self.passed_s)

    def monotonic_s(self) -> float:
        return self.passed_s

    def sleep(self, seconds: float) -> None:
        self.passed_s += seconds


class NoSecrets:
    def resolve(self, reference: str) -> str:
        raise errors.ConfigError("secret", f"{reference} is not to be resolved here")


def facilities(state: Path, clock: Clock | None = None) -> ports.DriverFacilities:
    return ports.DriverFacilities("test", state, (), NoSecrets(), clock or Clock())


def desired(text: str, **more: object) -> model.Desired:
    return model.Desired.model_validate(
        {
            "target": "t",
            "kind": "memory",
            "connection": {},
            "revision": "r",
            "digest": model.sha256(text.encode()),
            "environment": "dev",
            "spec": {},
            "payload": {"resources.yaml": text.encode()},
            **more,
        }
    )


ONE = desired("resources: [{kind: item, namespace: demo, name: a, value: one}]")
TWO = desired("resources: [{kind: item, namespace: demo, name: a, value: two}]")


def write(driver: memory.Memory, wanted: model.Wanted, deployment: str = "d1", epoch: int = 1) -> model.Look:
    look = driver.observe(wanted, {}, 5)
    steps = tuple(step for seen in look.observations for step in seen.steps)
    permit = model.Permit(deployment=deployment, epoch=epoch, seq=1, deadline_s=5)
    results = driver.apply(wanted, model.Stage(batch=0, order=0, steps=steps), permit)
    assert all(r.effect is model.Effect.CHANGED for r in results)
    return driver.observe(wanted, {}, 5)


def test_a_world_outlives_the_driver_that_wrote_it(tmp_path: Path) -> None:
    write(memory.Memory(facilities(tmp_path)), ONE)
    assert not any(seen.steps for seen in memory.Memory(facilities(tmp_path)).observe(ONE, {}, 5).observations)
    assert [p.name for p in (tmp_path / "t").iterdir()] == ["world.json"], "no temporary file is left"


def test_the_folder_of_the_world_is_watched_since_its_file_is_replaced(tmp_path: Path) -> None:
    around = facilities(tmp_path)
    write(memory.Memory(around), ONE)
    (watched,) = memory.watched_paths(ONE, around)
    assert memory.world_file(around, "t").parent == watched
    assert watched.is_dir()


def test_an_edit_of_the_file_by_hand_is_seen_as_drift(tmp_path: Path) -> None:
    driver = memory.Memory(facilities(tmp_path))
    write(driver, ONE)
    path = memory.world_file(facilities(tmp_path), "t")
    edited = json.loads(path.read_text())
    edited["values"][KEY] = "by hand"
    path.write_text(json.dumps(edited))
    (seen,) = driver.observe(ONE, {}, 5).observations
    assert (seen.actual, seen.steps[0].action) == ("by hand", "update")


def test_a_world_that_cannot_be_read_is_an_error_and_not_an_empty_one(tmp_path: Path) -> None:
    path = memory.world_file(facilities(tmp_path), "t")
    path.parent.mkdir()
    path.write_text('{"values": ')
    with pytest.raises(errors.PermanentError, match="not the world"):
        memory.Memory(facilities(tmp_path)).observe(ONE, {}, 5)


def test_the_dead_man_takes_an_unconfirmed_deployment_back_after_its_window(tmp_path: Path) -> None:
    clock = Clock()
    driver = memory.Memory(facilities(tmp_path, clock))
    write(driver, ONE, "d1")
    assert driver.confirm(ONE, "d1")
    two = TWO.model_copy(update={"spec": {"window": "60s"}})
    write(driver, two, "d2")
    clock.sleep(61)
    look = driver.observe(two, {}, 5)
    assert (look.reverted, look.observations[0].actual) == ("d2", "one")
    assert not driver.confirm(two, "d2")


def test_a_confirmed_deployment_is_not_taken_back(tmp_path: Path) -> None:
    clock = Clock()
    driver = memory.Memory(facilities(tmp_path, clock))
    one = ONE.model_copy(update={"spec": {"window": "60s"}})
    write(driver, one)
    assert driver.confirm(one, "d1")
    clock.sleep(61)
    assert driver.observe(one, {}, 5).observations[0].actual == "one"


def test_an_older_epoch_writes_nothing() -> None:
    world = memory.World()
    driver = memory.Memory.on(lambda _name: world)
    write(driver, ONE, epoch=5)
    with pytest.raises(errors.PermanentError, match="newer daemon"):
        write(driver, TWO, epoch=4)
    assert world.values == {KEY: "one"}


@pytest.mark.parametrize(
    ("value", "health"),
    [
        ("bad", "FAILED"),
        ("slow", "PROGRESSING"),
        ("fine", "HEALTHY"),
        ("{colour: red, health: bad}", "FAILED"),
    ],
)
def test_a_value_says_how_it_is(value: str, health: str) -> None:
    world = memory.World()
    wanted = desired(f"resources: [{{kind: item, namespace: demo, name: a, value: {value}}}]")
    look = write(memory.Memory.on(lambda _name: world), wanted)
    assert (look.health, look.observations[0].health) == (health, health)


def test_a_probe_that_fails_makes_the_whole_target_sick(tmp_path: Path) -> None:
    (tmp_path / "ready").write_text("no")
    probe = model.Probe(kind="file", fields={"path": str(tmp_path / "ready"), "contains": "yes"})
    world = memory.World()
    look = write(memory.Memory.on(lambda _name: world), ONE.model_copy(update={"probes": (probe,)}))
    assert look.health is model.Health.FAILED
    assert "does not contain" in look.findings[0].message


def test_an_unreachable_member_is_an_error_and_never_absence() -> None:
    world = memory.World()
    driver = memory.Memory.on(lambda _name: world)
    wanted = desired(
        "resources: [{kind: item, name: a, member: m1, value: 1}, {kind: item, name: a, member: m2, value: 1}]"
    )
    write(driver, wanted)
    world.unreachable = {"m1"}
    look = driver.observe(wanted, {}, 5)
    assert list(look.errors) == ["m1:"]
    assert not any(seen.steps for seen in look.observations)


def test_what_nobody_declared_is_foreign_and_has_no_steps() -> None:
    world = memory.World(values={KEY: "one", model.Key("item/demo/other"): 1})
    look = memory.Memory.on(lambda _name: world).observe(ONE, {}, 5)
    assert [(seen.key, seen.steps) for seen in look.foreign] == [("item/demo/other", ())]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("resources: [{kind: item, name: a, value: null}]", "null is how"),
        ("resources: [{kind: item, name: a, value: 1}, {kind: item, name: a, value: 2}]", "stands twice"),
        ("resources: [{kind: 'it em', name: a, value: 1}]", "kind"),
        ("resources:\n- {kind: item, name: a, value: 1, colour: red}", "no field of this name"),
        ("- 1", "mapping"),
    ],
)
def test_a_document_that_is_wrong_is_refused_with_its_line(text: str, said: str) -> None:
    (reason,) = memory.Memory.on(lambda _name: memory.World()).validate(desired(text))
    assert said in reason.message
    assert reason.where.startswith("targets/t/resources.yaml:")


def test_a_missing_document_is_refused_but_for_an_absent_target() -> None:
    driver = memory.Memory.on(lambda _name: memory.World())
    gone = ONE.model_copy(update={"payload": {}})
    assert [r.message for r in driver.validate(gone)] == ["this file is missing"]
    assert driver.validate(gone.model_copy(update={"mode": model.Mode.ABSENT})) == ()
