"""The reference pages name every field that the models read, and their examples are read."""

from __future__ import annotations

import re
import textwrap
from pathlib import Path

import pydantic
import pytest

from reconciler import config, documents, model, strict_yaml

PAGES = Path(__file__).parents[2] / "docs/reference"
CONFIGURATION = (PAGES / "configuration.md").read_text()
TARGET = (PAGES / "target.md").read_text()


def _named(page: str) -> set[str]:
    """Every word in backticks, `source.url` as its parts."""
    return {part for quoted in re.findall(r"`([^`]+)`", page) for part in re.split(r"[^A-Za-z]+", quoted)}


def _fields(of: type[pydantic.BaseModel]) -> set[str]:
    return {field.alias or name for name, field in of.model_fields.items()}


def _example(page: str, kind: str) -> bytes:
    (found,) = (text for text in re.findall(r"(?:^    .*\n)+", page, re.MULTILINE) if f"kind: {kind}\n" in text)
    return textwrap.dedent(found).encode()


@pytest.mark.parametrize(
    "part",
    [
        config.Configuration,
        config.Source,
        config.Auth,
        config.Denied,
        config.Store,
        config.Gates,
        config.Vault,
        config.VaultAuth,
        config.AppRole,
        config.Jwt,
        config.KubernetesJwt,
        config.Operator,
        config.Web,
    ],
)
def test_every_field_of_the_configuration_is_on_its_page(part: type[pydantic.BaseModel]) -> None:
    assert _fields(part) - {"apiVersion", "kind"} - _named(CONFIGURATION) == set()


def test_every_field_of_a_target_is_on_its_page() -> None:
    assert _fields(documents.TargetSpec) - _named(TARGET) == set()


def test_the_configuration_of_the_page_is_read(tmp_path: Path) -> None:
    path = tmp_path / "reconciler.yaml"
    path.write_bytes(_example(CONFIGURATION, "Reconciler"))
    assert config.load(path, {}).production


def test_the_target_of_the_page_is_read() -> None:
    blob = _example(TARGET, "Target")
    read = documents.parse_target("payments-api", model.Oid("0" * 40), model.Digest("0" * 64), {"target.yaml": blob})
    assert [check.title for check in read.desired.checks] == ["opa: compliance_policy"]


def test_the_defaults_of_the_page_are_those_of_the_model() -> None:
    deadlines = model.Deadlines()
    spoken = [deadlines.connect_s, deadlines.command_s, deadlines.stage_s, deadlines.health_s, deadlines.total_s]
    assert spoken == [10, 30, 300, 600, 1800]
    assert "`10s`, `30s`, `5m`, `10m`, `30m`" in TARGET


def test_the_target_of_the_front_page_is_read() -> None:
    page = (PAGES.parents[1] / "README.md").read_text()
    blob = _example(page, "Target")
    assert strict_yaml.load(blob, "README.md")
    read = documents.parse_target("payments-api", model.Oid("0" * 40), model.Digest("0" * 64), {"target.yaml": blob})
    assert [probe.kind for probe in read.desired.probes] == ["file"]
