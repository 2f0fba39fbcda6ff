"""JSON Schemas of every document that people write and of the log's records, exported from the models that read them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated

import pydantic
import typer
from pydantic import BaseModel, JsonValue

from reconciler import config, documents, errors
from reconciler.admission import policy, trying
from reconciler.audit import record
from reconciler.cli import printing
from reconciler.daemon import plugins

app = typer.Typer(rich_markup_mode=None)
_DIALECT = "https://json-schema.org/draft/2020-12/schema"


@app.command()
def schema(
    kind: Annotated[
        str, typer.Argument(metavar="[KIND]", help="target, target.vm, approval-policy, ...; none: their names.")
    ] = "",
    write: Annotated[Path | None, typer.Option("--write", help="Write all of them into this folder.")] = None,
) -> None:
    """Print the JSON Schema of one kind of document, for editors."""
    made = export()
    if write is not None:
        write.mkdir(parents=True, exist_ok=True)
        for name, content in made.items():
            (write / name).write_bytes(content)
        return
    if not kind:
        for name in made:
            printing.out(name.removesuffix(".json"))
        return
    if f"{kind}.json" not in made:
        known = ", ".join(name.removesuffix(".json") for name in made)
        raise errors.ConfigError("usage", f"there is no kind {kind!r}", fix=f"one of {known}")
    printing.out(made[f"{kind}.json"].decode().removesuffix("\n"))


def export() -> Mapping[str, bytes]:
    """File name -> content, as it lies in schemas/."""
    drivers = _drivers()
    models: dict[str, JsonValue] = {
        "approval-policy": _schema(policy.PolicyFile),
        "approval-policy-test": _schema(trying.CaseFile),
        "reconciler": _schema(config.Configuration),
        "record": _schema(record.Record),
        "target": _target(drivers),
        **{f"target.{name}": _schema(made) for name, made in drivers.items()},
    }
    return {f"{name}.json": _bytes(models[name]) for name in sorted(models)}


def _drivers() -> dict[str, type[BaseModel]]:
    """Type -> the model of its own part of target.yaml; ours only."""
    loaded: Mapping[str, type[BaseModel]] = plugins.Loaded(
        "reconciler.targets", frozenset(), lambda _, made: made.schema
    )
    return {name: loaded[name] for name in sorted(loaded)}


def _target(drivers: Mapping[str, type[BaseModel]]) -> JsonValue:
    """The document, in which each type's own part stands under the name of the type."""
    parts = {name: (made, None) for name, made in drivers.items()}
    fields = {name: pydantic.Field(default=None) for name in parts}
    spec = pydantic.create_model(
        "TargetSpec",
        __base__=documents.TargetSpec,
        **{name: (made | None, fields[name]) for name, made in drivers.items()},  # type: ignore[call-overload]
    )
    whole = pydantic.create_model("Target", __base__=documents.TargetFile, spec=(spec, ...))
    return _schema(whole)


def _schema(of: type[BaseModel]) -> dict[str, JsonValue]:
    return {"$schema": _DIALECT, **of.model_json_schema(by_alias=True, mode="validation")}


def _bytes(made: JsonValue) -> bytes:
    return (json.dumps(made, indent=2, sort_keys=True, ensure_ascii=False) + "\n").encode()
