"""Of each target only the last few readings are kept, however often it is merged to."""

from __future__ import annotations

from support import openshift

from reconciler.targets.openshift.desired import manifests


def test_a_target_that_is_merged_to_again_and_again_keeps_three_readings() -> None:
    kept = manifests._Kept()
    other = openshift.desired("n", openshift.config_map("n", "a", {}), target="other", folder="other")
    kept.put(other, manifests._read(other))
    versions = [openshift.desired("n", openshift.config_map("n", "a", {"text": str(text)})) for text in range(6)]
    for version in versions:
        kept.put(version, manifests._read(version))
    assert [kept.get(version) is not None for version in versions] == [False] * 3 + [True] * 3
    assert kept.get(other) is not None
