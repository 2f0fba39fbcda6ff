"""What every view answers with: frozen camelCase documents, the same for the command line and for HTTP (design.md 9)."""

from __future__ import annotations

from typing import Literal

import pydantic

from reconciler import documents


class Row(documents.Camel):
    """One entry of a list, or a part of one. Built by field name, printed in camelCase."""

    model_config = pydantic.ConfigDict(populate_by_name=True, serialize_by_alias=True)


class Document(Row):
    """The root of an answer; each kind says its own name."""

    api_version: Literal["reconciler/v1"] = "reconciler/v1"
