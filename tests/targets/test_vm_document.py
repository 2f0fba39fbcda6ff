"""vm.yaml: what is read, in which order, and what is refused with file and line (D22, D23, T01)."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import JsonValue
from support import targets

from reconciler import errors, model
from reconciler.targets.vm import document, driver

FILES = {"files/a.conf": b"a\n", "files/b.conf": b"b\n"}


def desired(text: str, connection: dict[str, JsonValue] | None = None, **more: object) -> model.Desired:
    return targets.desired(
        "vm", {"vm.yaml": text.encode(), **FILES}, connection or {"transport": "local", "root": "/srv/app"}, **more
    )


def reasons(text: str) -> list[tuple[str, str]]:
    return [(r.where.rpartition(":")[2], r.message) for r in document.problems(desired(text))]


def test_directories_come_first_by_depth_then_files_by_their_chain() -> None:
    text = """
directories:
  - {path: conf/d, mode: "0755"}
  - {path: conf, mode: "0755"}
files:
  - {path: last, content: x, mode: "0644", after: [conf/a]}
  - {path: conf/a, source: files/a.conf, mode: "0644", after: [first]}
  - {path: first, source: files/b.conf, mode: "0600"}
"""
    wants = document.read(desired(text))
    assert sorted((w.order, key) for key, w in wants.items()) == [
        (0, "directory//conf"),
        (1, "directory//conf/d"),
        (100, "file//first"),
        (101, "file//conf/a"),
        (102, "file//last"),
    ]
    assert wants[model.Key("file//last")].source == "targets/t/vm.yaml:6"
    assert wants[model.Key("file//conf/a")].content == b"a\n"


def test_leftovers_go_in_the_reverse_order() -> None:
    keys = [model.Key(k) for k in ("directory//a", "directory//a/b", "file//a/b/c")]
    assert [document.order_of(key) for key in keys] == [0, 1, 100]


@pytest.mark.parametrize(
    "path",
    [
        "/etc/passwd",
        "../up",
        "a/../b",
        "a//b",
        "./a",
        "a/",
        "",
        "a;reboot",
        "$(id)",
        "`id`",
        "a b",
        "a\\nb",
        "a\\tb",
        "a\\0b",
        "a\\u2028b",
        "m1:a",
        "a*",
        "-",
        ".reconciler/ledger.json",
        "x/.reconciler-1",
        "ü",
    ],
)
def test_a_path_that_somebody_could_read_differently_is_refused_with_its_line(path: str) -> None:
    found = reasons(f'files:\n  - {{path: "{path}", content: x, mode: "0644"}}\n')
    if path == "-":
        assert found == [], "a dash alone is taken literally: no path ever stands in a command line"
    else:
        assert [line for line, _ in found] == ["2"]


@pytest.mark.parametrize("name", ["root;id", "$(id)", "-R", "a b", "UPPER", "a:b"])
def test_an_owner_is_a_name_or_a_number(name: str) -> None:
    assert reasons(f'files:\n  - {{path: a, content: x, mode: "0644", owner: "{name}"}}\n')
    assert not reasons('files:\n  - {path: a, content: x, mode: "0644", owner: www-data, group: "1000"}\n')


@pytest.mark.parametrize("mode", ['"644"', '"0888"', '"u+s"', "644"])
def test_a_mode_is_four_quoted_digits(mode: str) -> None:
    assert reasons(f"files:\n  - {{path: a, content: x, mode: {mode}}}\n")


@pytest.mark.parametrize("mode", ["4755", "2755", "1777"])
def test_special_bits_are_only_set_where_they_are_declared(mode: str) -> None:
    assert "special: true" in reasons(f'files:\n  - {{path: a, content: x, mode: "{mode}"}}\n')[0][1]
    assert not reasons(f'files:\n  - {{path: a, content: x, mode: "{mode}", special: true}}\n')


@pytest.mark.parametrize(
    ("text", "line", "said"),
    [
        ('files:\n  - {path: a, source: files/absent, mode: "0644"}', "2", "does not exist"),
        ('files:\n  - {path: a, source: ../../x, mode: "0644"}', "2", "lies under files/"),
        ('files:\n  - {path: a, mode: "0644"}', "2", "either `source` or `content`"),
        ('files:\n  - {path: a, source: files/a.conf, content: x, mode: "0644"}', "2", "either `source` or `content`"),
        (
            'files:\n  - {path: a, content: x, mode: "0644"}\n  - {path: a, content: x, mode: "0644"}',
            "3",
            "stands twice",
        ),
        ('directories:\n  - {path: a, mode: "0755"}\nfiles:\n  - {path: a, content: x, mode: "0644"}', "4", "twice"),
        ('files:\n  - {path: a/b, content: x, mode: "0644"}', "2", "folder a is not declared"),
        ('files:\n  - {path: a, content: x, mode: "0644", after: [b]}', "2", "b is no file"),
        ('files:\n  - {path: a, content: x, mode: "0644", after: [a]}', "2", "cycle"),
        ('directories:\n  - {path: a, mode: "0755", purge: true}', "2", "purge"),
        ('files:\n  - {path: a, content: x, mode: "0644", colour: red}', "2", "no field of this name"),
        ("- a", "1", "mapping"),
    ],
)
def test_what_is_wrong_is_named_with_its_line(text: str, line: str, said: str) -> None:
    found = reasons(text)
    assert [at for at, _ in found] == [line]
    assert said in found[0][1]
    with pytest.raises(errors.ConfigError, match=r"vm\.yaml"):
        document.read(desired(text))


def test_a_longer_cycle_is_named_whole() -> None:
    text = 'files:\n  - {path: a, content: x, mode: "0644", after: [b]}\n  - {path: b, content: x, mode: "0644", after: [a]}\n'
    ((_, message),) = reasons(text)
    assert "a -> b -> a" in message or "b -> a -> b" in message


def test_a_missing_document_is_refused_but_for_an_absent_target() -> None:
    gone = desired("{}").model_copy(update={"payload": {}})
    assert [r.message for r in document.problems(gone)] == ["this file is missing"]
    assert document.read(gone.model_copy(update={"mode": model.Mode.ABSENT})) == {}


@given(st.text())
def test_no_text_is_a_path_that_leaves_the_root(text: str) -> None:
    try:
        kind, path = document.parse_key(model.Key(f"file//{text}"))
    except errors.ConfigError:
        return
    assert (kind, path) == ("file", text)
    assert (Path("/root") / path).is_relative_to("/root")
    assert ".." not in Path(path).parts
    assert path.isascii()
    assert path.isprintable()


@pytest.mark.parametrize(
    ("connection", "said"),
    [
        ({"transport": "ssh", "hosts": ["web1"]}, "ssh is not in this version"),
        ({"transport": "local", "root": "/srv/other"}, "under no folder of local.roots"),
        ({"transport": "local", "root": "/srv/app/../other"}, "without .."),
        ({"transport": "local", "root": "srv/app"}, "absolute"),
        ({"transport": "local"}, "connection"),
        ({}, "connection"),
    ],
)
def test_a_connection_that_is_not_allowed_is_refused(
    connection: dict[str, JsonValue], said: str, tmp_path: Path
) -> None:
    made = driver.Vm(targets.facilities(tmp_path, Path("/srv/app")))
    wanted = desired("{}", connection or {"transport": ""})
    assert said in made.validate(wanted)[0].message
    with pytest.raises(errors.ConfigError):
        made.observe(wanted, {}, 5)


def test_everything_that_is_wrong_is_said_at_once(tmp_path: Path) -> None:
    made = driver.Vm(targets.facilities(tmp_path, Path("/srv/app")))
    wanted = desired(
        "files: [{path: a}]",
        {"transport": "ssh"},
        probes=(model.Probe(kind="port", fields={}),),
        ignore=(model.Ignore(key="file//a", path="mode", reason="x"),),
        spec={"colour": "red"},
    )
    assert [r.code for r in made.validate(wanted)] == ["schema", "ignore", "schema", "transport", "schema"]
