"""What of an object is shown: no byte of a secret, wherever it stands (T08, T09)."""

from __future__ import annotations

import base64
import difflib
import json
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from pydantic import JsonValue

from reconciler import redact
from reconciler.targets.openshift import masking

CANARY = "c4n4ry-of-a-secret"
KEY = b"k" * 32


def coded(text: str) -> str:
    return base64.b64encode(text.encode()).decode()


def secret(**parts: Any) -> dict[str, JsonValue]:
    return {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "a", "namespace": "b"}, **parts}


def diff(one: JsonValue, other: JsonValue) -> str:
    sides = [json.dumps(side, indent=1, sort_keys=True).splitlines() for side in masking.mask_pair(other, one)]
    return "\n".join(difflib.unified_diff(sides[1], sides[0], lineterm=""))


def test_t08_data_string_data_annotations_and_managed_fields_are_masked() -> None:
    live = secret(data={"p": coded(CANARY)}, stringData={"q": CANARY}, type="Opaque")
    live["metadata"] = {
        "name": "a",
        "annotations": {masking.LAST_APPLIED: json.dumps(live), "team": "payments"},
        "managedFields": [{"manager": "m", "fieldsV1": {"f:data": {f'v:"{CANARY}"': {}}}}],
    }
    shown = json.dumps(masking.mask(live))
    assert CANARY not in shown
    assert coded(CANARY) not in shown
    assert '"team": "payments"' in shown
    assert '"type": "Opaque"' in shown


def test_t08_lists_templates_and_other_versions_are_masked_too() -> None:
    one = secret(data={"p": coded(CANARY)})
    wrapped: list[dict[str, JsonValue]] = [
        {"apiVersion": "v1", "kind": "List", "items": [one]},
        {"apiVersion": "v1", "kind": "SecretList", "items": [{**one}]},
        {"apiVersion": "template.openshift.io/v1", "kind": "Template", "metadata": {}, "objects": [one]},
        {**one, "apiVersion": "v2alpha1"},
    ]
    for whole in wrapped:
        assert coded(CANARY) not in json.dumps(masking.mask(whole))


def test_t08_a_value_equal_to_the_mask_is_no_hiding_place() -> None:
    before, after = secret(data={"p": redact.MASK}), secret(data={"p": coded(CANARY)})
    for one, other in ((before, after), (after, before)):
        said = diff(one, other)
        assert masking.CHANGED in said, "the change is seen"
        assert coded(CANARY) not in said
    assert diff(before, before) == ""
    assert diff(secret(data={"p": masking.CHANGED}), before) != ""


def test_a_plan_says_that_a_secret_changes_and_not_from_what_to_what() -> None:
    said = diff(
        secret(data={"p": coded("old-secret"), "q": coded("same")}),
        secret(data={"p": coded("new-secret"), "q": coded("same")}),
    )
    assert '-  "p": "***",' in said
    assert '+  "p": "(changed)",' in said
    assert '"q": "(changed)"' not in said


def test_references_stay_readable_where_git_has_them_and_nowhere_else() -> None:
    assert masking.mask(secret(stringData={"p": "vault:kv/a#b"}))["stringData"] == {"p": "vault:kv/a#b"}
    assert masking.mask(secret(data={"p": "vault:kv/a#b"}))["data"] == {"p": "***"}


def test_private_keys_of_routes_and_secrets_of_clients_are_masked() -> None:
    route: dict[str, JsonValue] = {
        "apiVersion": "route.openshift.io/v1",
        "kind": "Route",
        "spec": {"tls": {"key": CANARY, "certificate": "c"}},
    }
    client: dict[str, JsonValue] = {
        "apiVersion": "oauth.openshift.io/v1",
        "kind": "OAuthClient",
        "secret": CANARY,
        "additionalSecrets": [CANARY],
    }
    assert masking.mask(route)["spec"] == {"tls": {"key": "***", "certificate": "c"}}
    assert CANARY not in json.dumps(masking.mask(client))


def test_an_environment_variable_that_is_called_a_secret_is_masked() -> None:
    env: list[JsonValue] = [
        {"name": "DB_PASSWORD", "value": CANARY},
        {"name": "COLOUR", "value": "blue"},
        {"name": "API_TOKEN", "valueFrom": {"secretKeyRef": {"name": "a", "key": "token"}}},
    ]
    pod: dict[str, JsonValue] = {"apiVersion": "v1", "kind": "Pod", "spec": {"containers": [{"name": "c", "env": env}]}}
    assert masking.mask(pod)["spec"] == {
        "containers": [{"name": "c", "env": [{"name": "DB_PASSWORD", "value": "***"}, env[1], env[2]]}]
    }


def test_t09_an_error_about_a_secret_keeps_its_reason_only() -> None:
    said = f'Secret "a" is invalid: data[p]: Invalid value: "{CANARY}"'
    assert (
        masking.server_said(said, secret(), "Invalid")
        == "Invalid: what the server said is withheld, since it may quote a secret"
    )
    assert CANARY not in masking.server_said(said, secret(), f"Invalid {CANARY}")
    assert CANARY not in masking.server_said(said, {"kind": "List", "items": [secret()]})
    assert masking.server_said("spec.replicas: \x1b[31mno", {"kind": "Deployment"}) == "spec.replicas: no"


def test_sides_compare_sealed_as_the_server_keeps_them() -> None:
    live, declared = secret(data={"p": coded(CANARY)}), secret(stringData={"p": CANARY})
    assert masking.seal(live, KEY) == masking.seal(declared, KEY)
    assert masking.seal(live, KEY) != masking.seal(live, b"o" * 32)
    assert masking.seal(live, KEY) != masking.seal(secret(data={"p": coded(CANARY + "x")}), KEY)
    assert live["data"] == {"p": coded(CANARY)}, "the object itself is left alone"


def test_a_plain_text_in_the_place_of_base64_is_not_what_it_decodes_to() -> None:
    assert masking.seal(secret(data={"p": "abc!"}), KEY) != masking.seal(secret(stringData={"p": "abc!"}), KEY)


NAMES = st.text("abcdefgh-.", min_size=1, max_size=6)
SECRETS = st.text(st.characters(min_codepoint=33, max_codepoint=0x2FF), min_size=6, max_size=30).map(lambda s: f"§{s}§")
PLAIN = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(0, 9), st.text("xyz", max_size=3)),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(NAMES, inner, max_size=3)),
    max_leaves=5,
)


@st.composite
def objects(draw: st.DrawFn) -> tuple[dict[str, JsonValue], list[str]]:
    """A Secret in some wrapping, and the values that must not be seen."""
    values = draw(st.lists(SECRETS, min_size=1, max_size=4))
    names = draw(st.lists(NAMES, min_size=4, max_size=4, unique=True))
    made = secret(
        data={name: coded(value) for name, value in zip(names, values, strict=False)},
        stringData=dict(zip(reversed(names), values, strict=False)),
    )
    made["metadata"] = {
        "name": "a",
        "annotations": {masking.LAST_APPLIED: json.dumps(made)},
        "managedFields": [values[0]],
    }
    made["more"] = draw(PLAIN)
    whole: dict[str, JsonValue] = made
    for _ in range(draw(st.integers(0, 2))):
        whole = {
            "apiVersion": "v1",
            "kind": draw(st.sampled_from(["List", "Template", "X"])),
            "items": [whole, draw(PLAIN)],
        }
    return whole, [*values, *(coded(value) for value in values)]


@given(objects())
def test_no_byte_of_a_secret_is_in_a_masked_object(made: tuple[dict[str, JsonValue], list[str]]) -> None:
    whole, values = made
    shown = json.dumps(masking.mask(whole), ensure_ascii=False)
    assert not [value for value in values if value in shown]
    sealed = json.dumps(masking.seal(whole, KEY), ensure_ascii=False) if whole["kind"] == "Secret" else ""
    assert not [value for value in values if value in sealed]


@given(objects(), objects())
def test_no_byte_of_a_secret_is_in_a_diff(
    one: tuple[dict[str, JsonValue], list[str]], other: tuple[dict[str, JsonValue], list[str]]
) -> None:
    said = diff(one[0], other[0])
    assert not [value for value in (*one[1], *other[1]) if value in said or json.dumps(value)[1:-1] in said]


@given(st.dictionaries(NAMES, SECRETS, min_size=1, max_size=3), st.dictionaries(NAMES, SECRETS, min_size=1, max_size=3))
def test_two_secrets_show_a_difference_exactly_where_there_is_one(one: dict[str, str], other: dict[str, str]) -> None:
    said = diff(
        secret(data={k: coded(v) for k, v in one.items()}), secret(data={k: coded(v) for k, v in other.items()})
    )
    assert (said == "") == (one == other)
