"""schemas/ holds what the models say today."""

from __future__ import annotations

import json
from pathlib import Path

from reconciler.cli import schema

SCHEMAS = Path(__file__).parents[1] / "schemas"


def test_the_schemas_that_are_checked_in_are_those_of_the_models() -> None:
    held = {path.name: path.read_bytes() for path in SCHEMAS.glob("*.json")}
    assert held == dict(schema.export()), "write them again: reconciler schema --write schemas"


def test_a_target_may_hold_its_own_part_under_its_type() -> None:
    made = json.loads(schema.export()["target.json"])
    assert {"memory", "vm"} <= made["$defs"]["TargetSpec"]["properties"].keys()
    assert made["additionalProperties"] is False
