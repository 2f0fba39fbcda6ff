"""What is wanted, read again: what did not change is the same value, and what rests on a secret is asked for anew."""

from __future__ import annotations

import pytest
from support import openshift

from reconciler import model
from reconciler.targets.openshift.observing import wants

SECRET = {
    "apiVersion": "v1",
    "kind": "Secret",
    "metadata": {"name": "s", "namespace": "payments"},
    "stringData": {"password": "env:PASSWORD"},
}
LEAVES_TEXT = model.Ignore(key="ConfigMap/*/*", path="data.text", reason="theirs")


def desired(text: str, **more: object) -> model.Desired:
    first, second = (
        openshift.config_map("payments", name, {"text": told}) for name, told in (("a", text), ("b", "same"))
    )
    return openshift.desired("payments", first, second, SECRET, **more)


@pytest.fixture
def secrets() -> openshift.Secrets:
    return openshift.Secrets({"env:PASSWORD": "first-password"})


def reader(secrets: openshift.Secrets) -> wants.Reader:
    return wants.Reader(secrets, openshift.Clock(), bytes(32))


def test_what_did_not_change_is_the_same_want(secrets: openshift.Secrets) -> None:
    reads = reader(secrets)
    before, after = reads.read(desired("one")).by_key, reads.read(desired("two")).by_key
    kept = [key for key in before if before[key] is after[key]]
    assert kept == ["ConfigMap/payments/b"]
    assert after[model.Key("ConfigMap/payments/a")].body["data"] == {"text": "two"}


def test_a_secret_is_resolved_at_every_reading(secrets: openshift.Secrets) -> None:
    reads, key = reader(secrets), model.Key("Secret/payments/s")
    before = reads.read(desired("one")).by_key[key]
    secrets.known["env:PASSWORD"] = "second-password"
    after = reads.read(desired("two")).by_key[key]
    assert before.body == after.body
    assert before.digest != after.digest


def test_what_is_left_to_others_counts_from_the_reading_that_says_so(secrets: openshift.Secrets) -> None:
    reads, key = reader(secrets), model.Key("ConfigMap/payments/b")
    before = reads.read(desired("one")).by_key[key]
    left = reads.read(desired("one", ignore=(LEAVES_TEXT,))).by_key[key]
    assert (before.body["data"], left.body["data"]) == ({"text": "same"}, {})
    assert reads.read(desired("one")).by_key[key].digest == before.digest
