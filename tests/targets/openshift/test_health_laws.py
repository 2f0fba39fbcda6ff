"""Laws of the judge: whatever an object says, it is judged, and an old observation is never green."""

from __future__ import annotations

from typing import Any

import hypothesis.strategies as st
from hypothesis import given, settings

from reconciler.targets.openshift.judging import health, reasons

KINDS = [
    *health.OWN,
    *((group, kind) for group, kinds in health.STATELESS.items() for kind in kinds),
    ("example.com", "Widget"),
]
SCALARS = (
    st.none() | st.booleans() | st.integers(-5, 5) | st.text(max_size=8) | st.sampled_from(["True", "False", "Bound"])
)
JSON = st.recursive(SCALARS, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3), max_leaves=5)  # fmt: skip
FIELDS = [
    *("conditions", "replicas", "readyReplicas", "availableReplicas", "updatedReplicas", "observedGeneration", "phase"),
    *(
        "loadBalancer",
        "ingress",
        "tags",
        "containerStatuses",
        "hard",
        "type",
        "clusterIP",
        "selector",
        "updateStrategy",
    ),
]
TYPES = ["Ready", "Available", "Progressing", "Complete", "Failed", "Established", "Stalled", "Reconciling", "Admitted"]
CONDITIONS = st.lists(
    st.fixed_dictionaries(
        {"type": st.sampled_from(TYPES), "status": st.sampled_from(["True", "False", "Unknown"])},
        optional={"reason": JSON, "message": JSON, "observedGeneration": JSON},
    ),
    max_size=4,
)
PART = st.dictionaries(st.sampled_from(FIELDS), JSON, max_size=6)


@st.composite
def objects(draw: st.DrawFn) -> dict[str, Any]:
    group, kind = draw(st.sampled_from(KINDS))
    status = draw(PART)
    if draw(st.booleans()):
        status["conditions"] = draw(CONDITIONS)
    metadata = draw(
        st.dictionaries(st.sampled_from(["generation", "annotations", "managedFields", "uid", "finalizers"]), JSON)
    )
    version = f"{group}/v1" if group else "v1"
    return {"apiVersion": version, "kind": kind, "metadata": metadata, "spec": draw(PART | JSON), "status": status}


@settings(max_examples=80)
@given(objects())
def test_an_object_whose_controller_is_behind_is_never_current(body: dict[str, Any]) -> None:
    body["metadata"]["generation"] = 7
    body["status"]["observedGeneration"] = 6
    assert health.judge(body).status is not health.Status.CURRENT


@settings(max_examples=80)
@given(objects(), st.lists(objects(), max_size=3))
def test_any_object_is_judged_and_explained(body: dict[str, Any], children: list[dict[str, Any]]) -> None:
    said = health.judge(body)
    assert said.status in health.Status
    assert "\n" not in said.message
    assert reasons.explain(body, said, children).status in {said.status, health.Status.CURRENT}
    assert isinstance(reasons.children_of(body), tuple)


@given(st.dictionaries(st.sampled_from(["apiVersion", "kind", "metadata", "spec", "status", "x"]), JSON))
def test_anything_at_all_is_judged(body: dict[str, Any]) -> None:
    assert health.judge(body).status in health.Status


@settings(max_examples=50)
@given(objects())
def test_an_object_that_is_being_deleted_is_never_current(body: dict[str, Any]) -> None:
    body["metadata"]["deletionTimestamp"] = "2026-11-24T12:00:00Z"
    assert health.judge(body).status is health.Status.TERMINATING
