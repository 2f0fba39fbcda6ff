"""The gate `schema`: what may not even be looked at is found in the content, with file and line."""

from __future__ import annotations

import pytest
from support import gating

from reconciler import errors, model, ports
from reconciler.gates import schema

FILE = "targets/app/target.yaml"


def check(estate: gating.Estate, name: str = "app") -> model.GateResult:
    gate: ports.Gate = schema.SchemaGate(model.Check(gate="schema"), estate.facilities)
    return gate.check(estate.change(name), 90)


def findings(estate: gating.Estate, name: str = "app") -> list[tuple[str, str]]:
    result = check(estate, name)
    assert (result.outcome is model.Outcome.PASS) == (not result.findings)
    return [(reason.code, reason.where) for reason in result.findings]


def line(estate: gating.Estate, text: str, path: str = FILE) -> str:
    """file:line of the first line that holds this text."""
    blob = estate.store.read(estate.store.tree(estate.head)[path.encode()].oid).decode()
    return f"{path}:{next(i for i, each in enumerate(blob.split(chr(10)), 1) if text in each)}"


def estate(*folders: dict[str, bytes], **files: bytes) -> gating.Estate:
    made = gating.Estate()
    for folder in folders:
        made.commit(folder)
    if files:
        made.commit({f"targets/app/{path}": content for path, content in files.items()})
    return made


def test_a_sound_target_passes() -> None:
    made = estate(
        gating.target(host={"purge": True}, ignore=[{"key": "a", "path": "b", "reason": "c", "until": "2026-11-24"}])
    )
    assert findings(made) == []


def test_the_drivers_own_part_is_read_by_the_drivers_own_schema() -> None:
    made = estate(gating.target(host={"purge": True, "prune": True}))
    assert findings(made) == [("schema", line(made, "prune:"))]


def test_what_the_driver_says_gets_a_place() -> None:
    assert findings(estate(gating.target(), bad=b"x")) == [("schema", f"{FILE}:1")]
    assert findings(estate(gating.target(), broken=b"x")) == [("parse", f"{FILE}:1")]


def test_a_driver_is_closed_again() -> None:
    gating.Host.closed.clear()
    findings(estate(gating.target(), bad=b"x"))
    assert gating.Host.closed == ["host"]


def test_an_unknown_type_is_refused() -> None:
    made = estate(gating.target(type="mainframe"))
    result = check(made)
    assert [(r.code, r.where, r.fix) for r in result.findings] == [
        ("unknown_type", line(made, "type:"), "one of host, memory")
    ]


def test_a_target_that_is_taken_down_needs_no_payload() -> None:
    assert findings(estate(gating.target(mode="absent"), broken=b"x")) == []


def test_a_dependency_must_exist_in_this_revision() -> None:
    made = estate(gating.target("db"), gating.target(dependsOn=["db", "lost"]))
    assert findings(made) == [("depends_on", line(made, "- lost"))]


def test_a_cycle_of_dependencies_is_refused_and_shown() -> None:
    made = estate(
        gating.target("db", dependsOn=["net"]), gating.target("net", dependsOn=["app"]), gating.target(dependsOn=["db"])
    )
    result = check(made)
    assert [r.where for r in result.findings] == [line(made, "- db")]
    assert "app -> db -> net -> app" in result.findings[0].message


def test_a_target_may_not_depend_on_itself() -> None:
    made = estate(gating.target(dependsOn=["app"]))
    assert findings(made) == [("depends_on", line(made, "- app"))]


def test_a_cycle_elsewhere_is_not_this_targets_failure() -> None:
    made = estate(
        gating.target("one", dependsOn=["two"]),
        gating.target("two", dependsOn=["one"]),
        gating.target(dependsOn=["one"]),
    )
    assert findings(made) == []


def test_a_neighbour_that_cannot_be_read_is_not_this_targets_failure() -> None:
    made = estate(gating.target(), {"targets/other/target.yaml": b"*alias"})
    assert findings(made) == []


def test_an_ignore_entry_past_its_date_is_refused() -> None:
    entry = {"key": "a", "path": "b", "reason": "c"}
    made = estate(gating.target(ignore=[{**entry, "until": "2026-11-23"}, {**entry, "until": "soon"}, entry]))
    assert findings(made) == [("ignore", line(made, "2026-11-23")), ("ignore", line(made, "soon"))]


# --- two targets that want one thing ----------------------------------------------------------------------------------

SHARED = {"transport": "local", "root": "/srv/shared"}
ONE = b"files:\n  - {path: app.conf, content: a}\n  - {path: b.conf, content: b}\n"


def test_a_resource_that_another_target_declares_over_the_same_connection_is_refused() -> None:
    other = {"targets/other/vm.yaml": b"files:\n  - {path: b.conf, content: x}\n"}
    made = estate(
        gating.target("other", connection=SHARED) | other,
        gating.target(connection=SHARED) | {"targets/app/vm.yaml": ONE},
    )
    assert findings(made) == [("claimed", "targets/app/vm.yaml:3")]


@pytest.mark.parametrize("other", [b"files:\n  - {path: c.conf, content: x}\n", b"*broken"])
def test_targets_that_share_a_connection_and_nothing_else_pass(other: bytes) -> None:
    made = estate(
        gating.target("other", connection=SHARED) | {"targets/other/vm.yaml": other},
        gating.target(connection=SHARED) | {"targets/app/vm.yaml": ONE},
    )
    assert findings(made) == []


def test_equal_resources_in_different_places_pass() -> None:
    made = estate(
        gating.target("other") | {"targets/other/vm.yaml": ONE}, gating.target() | {"targets/app/vm.yaml": ONE}
    )
    assert findings(made) == []


def test_the_same_object_of_a_cluster_in_two_targets_is_refused_in_any_document_of_a_file() -> None:
    cluster = {"kubeconfig": "vault:kv/dev/cluster#kubeconfig"}
    first = b"kind: Namespace\nmetadata: {name: pay}\n---\nkind: Deployment\nmetadata: {name: api, namespace: pay}\n"
    second = b"kind: List\nitems:\n  - kind: Deployment\n    metadata: {name: api, namespace: pay}\n"
    made = estate(
        gating.target("other", connection=cluster) | {"targets/other/manifests/all.yaml": second},
        gating.target(connection=cluster) | {"targets/app/manifests/all.yaml": first},
    )
    assert findings(made) == [("claimed", "targets/app/manifests/all.yaml:4")]


# --- environment limits -----------------------------------------------------------------------------------------------


def test_a_document_cannot_call_itself_dev_and_reach_production() -> None:
    made = estate(
        gating.target(
            connection={
                "hosts": ["web1.dev.bank.example", "web1.prod.bank.example"],
                "password": "vault:kv/prod/web#password",
            },
            health=[
                {"http": {"url": "https://web.prod.bank.example:8443/x"}},
                {"port": {"host": "10.20.0.7", "port": 22}},
            ],
        )
    )
    assert sorted(findings(made)) == sorted(
        ("environment_limits", line(made, text))
        for text in ("web1.prod", "vault:kv/prod", "https://web.prod", "10.20.0.7")
    )


def test_an_environment_that_the_policy_does_not_name_reaches_nothing() -> None:
    made = estate(gating.target(environment="staging"))
    assert findings(made) == [("environment", line(made, "environment:"))]


@pytest.mark.parametrize(
    "connection",
    [
        {"device": {"address": "r1.prod.bank.example"}},
        {"url": "postgresql://app@db.prod.bank.example/app"},
        {"anything": "https://db.prod.bank.example/"},
        {"anything": "10.20.0.1"},
        {"members": {"web1": {"host": "deployer@web1.prod.bank.example:22"}}},
        {"jump": "web1.prod.bank.example"},
        {"hosts": ["WEB1.PROD.BANK.EXAMPLE"]},
        {"hosts": ["[::1]:22"]},
        {"host": "web1.dev.bank.example.evil.example"},
        {"host": "169.254.169.254"},
        {"host": "2130706433"},
        {"host": "web1.dev.bank.example@web1.prod.bank.example"},
        {"host": ""},
        {"host": 2130706433},
        {"hosts": {"web1.prod.bank.example": {"port": 22}}},
        {"url": "postgresql://db.dev.bank.example/app?host=db.prod.bank.example"},
        {"url": "https://web1.dev.bank.example\\@web1.prod.bank.example/"},
        {"dsn": "host=db.prod.bank.example user=app"},
        {"url": "https://[broken"},
    ],
)
def test_a_host_is_found_whatever_the_field_is_called(connection: dict[str, object]) -> None:
    assert [code for code, _ in findings(estate(gating.target(connection=connection)))] == ["environment_limits"]


def test_a_url_that_cannot_be_read_is_not_repeated() -> None:
    result = check(estate(gating.target(connection={"url": "https://app:hunter2 @web1.dev.bank.example"})))
    assert result.findings[0].message.startswith("(no host)")


def test_a_link_local_address_is_refused_even_where_a_network_allows_it() -> None:
    wide = {"endpoints": ["0.0.0.0/0"], "secrets": []}
    spec = {**gating.POLICY["spec"], "environments": {"dev": wide}}  # type: ignore[dict-item]
    made = gating.Estate(policy={**gating.POLICY, "spec": spec})
    made.commit(gating.target(connection={"host": "169.254.169.254"}))
    assert [code for code, _ in findings(made)] == ["environment_limits"]


@pytest.mark.parametrize(
    "connection",
    [
        {"host": "web1.dev.bank.example", "user": "deployer", "knownHosts": ["x.prod.bank.example ssh-ed25519 AAAA"]},
        {"url": "https://deployer@web1.dev.bank.example:8443/api"},
        {"hosts": ["web1.dev.bank.example:22"]},
        {"transport": "local", "root": "/srv/app"},
        {},
    ],
)
def test_hosts_of_the_own_environment_pass(connection: dict[str, object]) -> None:
    assert findings(estate(gating.target(connection=connection))) == []


def test_a_port_probe_without_a_host_is_this_host() -> None:
    port = [{"port": {"port": 8080}}]
    local = {"transport": "local", "root": "/srv/app"}
    assert findings(estate(gating.target(health=port, connection=local))) == []
    made = estate(gating.target(health=port, connection=local, environment="prod"))
    assert findings(made) == [("environment_limits", line(made, "- port:"))]


@pytest.mark.parametrize(
    "reference",
    [
        "vault:kv/dev/../prod/db#password",
        "vault:kv/dev/./db#password",
        "vault:kv/dev//db#password",
        "vault:kv/dev/%2e%2e/prod#password",
        "vault:kv/dev/db",
        "vault:kv#password",
        "vault:kv/dev/db#..",
        "vault:kv/dev/db#a#b",
        "vault:/kv/dev/db#password",
        "env:A B",
        "env:",
        "file:relative/path",
        "file:/etc/../etc/shadow",
        "file:/",
    ],
)
def test_a_malformed_reference_fails_and_is_not_repeated_in_the_message(reference: str) -> None:
    made = estate(gating.target(connection={"password": reference}))
    result = check(made)
    assert [(r.code, r.where) for r in result.findings] == [("secret_reference", line(made, "password:"))]
    assert reference.partition(":")[2] not in result.findings[0].message or reference == "env:"


def test_a_reference_in_the_payload_is_held_against_the_environment_too() -> None:
    payload = b"password: {secret: 'vault:kv/prod/db#password'}\ntoken: 'file:/etc/shadow'\ntag: 'env:prod'\n"
    made = estate(gating.target() | {"targets/app/vm.yaml": payload})
    assert findings(made) == [
        ("environment_limits", "targets/app/vm.yaml:1"),
        ("environment_limits", "targets/app/vm.yaml:2"),
    ]


def test_references_of_the_own_environment_pass() -> None:
    assert (
        findings(estate(gating.target(connection={"password": "vault:kv/dev/db#password", "token": "env:TOKEN"}))) == []
    )


def test_every_field_of_a_secrets_string_data_counts_whatever_it_is_called() -> None:
    payload = b"kind: Secret\nmetadata: {name: env:x}\nstringData:\n  url: 'env:PROD_URL'\n"
    made = estate(gating.target(environment="prod", connection={}) | {"targets/app/manifests/a.yaml": payload})
    assert findings(made) == [("environment_limits", "targets/app/manifests/a.yaml:4")]


def test_what_a_payload_refers_to_once_it_is_rendered_is_held_too() -> None:
    """A patch may put a reference together that no field of a file holds by itself."""
    payload = b"patches: ['- {op: add, path: /stringData/p, value: \"vault:kv/prod/root#p\"}']\n"
    made = estate(gating.target() | {"targets/app/rendered.yaml": payload})
    assert findings(made) == [("environment_limits", "targets/app/rendered.yaml:1")]


# --- the gate itself --------------------------------------------------------------------------------------------------


def test_options_cannot_loosen_it() -> None:
    with pytest.raises(errors.ConfigError, match="no options"):
        schema.SchemaGate(model.Check(gate="schema", options=(("hosts", "any"),)), gating.Estate().facilities)


def test_another_folder_than_the_one_that_was_judged_is_an_alarm() -> None:
    made = estate(gating.target())
    change = made.change()
    swapped = change.after["app"].model_copy(update={"digest": model.Digest("0" * 64)})
    gate = schema.SchemaGate(model.Check(gate="schema"), made.facilities)
    with pytest.raises(errors.AuditError):
        gate.check(change.model_copy(update={"after": {"app": swapped}}), 90)


def test_a_target_that_was_released_is_not_judged() -> None:
    made = estate(gating.target())
    gate = schema.SchemaGate(model.Check(gate="schema"), made.facilities)
    result = gate.check(made.change().model_copy(update={"after": {}}), 90)
    assert result.outcome is model.Outcome.PASS
