"""/openapi.json, made of the table of operations and the documents that they return. OpenAPI 3.1, JSON Schema 2020-12."""

from __future__ import annotations

import functools
import importlib.metadata
import re
from typing import cast, get_type_hints

import pydantic
from pydantic import JsonValue
from pydantic.json_schema import models_json_schema

from reconciler.views import document
from reconciler.web import api, problems

_REF = "#/components/schemas/{model}"


class Error(document.Document):
    kind: str = "Error"
    code: str
    message: str
    where: str
    fix: str


@functools.cache
def description() -> dict[str, JsonValue]:
    answers = {route.name: _answers(route) for route in api.ROUTES}
    taken = [route.takes for route in api.ROUTES if route.takes]
    models: list[type[pydantic.BaseModel]] = list(dict.fromkeys([*answers.values(), *taken, Error]))
    _, schemas = models_json_schema([(each, "serialization") for each in models], ref_template=_REF)
    paths: dict[str, JsonValue] = {}
    for route in api.ROUTES:
        path = cast("dict[str, JsonValue]", paths.setdefault(problems.PREFIX + route.path, {}))
        path[route.method.lower()] = _operation(route, answers[route.name])
    return {
        "openapi": "3.1.0",
        "info": {"title": "reconciler", "version": importlib.metadata.version("reconciler")},
        "paths": paths,
        "components": {"schemas": cast("JsonValue", schemas["$defs"])},
    }


def _answers(route: api.Route) -> type[pydantic.BaseModel]:
    return cast("type[pydantic.BaseModel]", get_type_hints(route.run)["return"])


def _operation(route: api.Route, answers: type[pydantic.BaseModel]) -> JsonValue:
    named: list[JsonValue] = [
        {"name": name, "in": "path", "required": True, "schema": {"type": "string"}}
        for name in re.findall(r"\{([a-z]+)\}", route.path)
    ]
    asked: list[JsonValue] = [{"name": name, "in": "query", "schema": {"type": "string"}} for name in route.params]
    operation: dict[str, JsonValue] = {
        "operationId": route.name,
        "parameters": [*named, *asked],
        "responses": {"200": _content(answers), "default": _content(Error)},
    }
    if route.takes:
        operation["requestBody"] = {"required": True, **_content(route.takes)}
    return operation


def _content(of: type[pydantic.BaseModel]) -> dict[str, JsonValue]:
    return {
        "description": of.__name__,
        "content": {"application/json": {"schema": {"$ref": _REF.format(model=of.__name__)}}},
    }
