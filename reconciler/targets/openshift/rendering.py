"""Verified blobs -> the text of objects, by kustomize or helm, in a child process that reaches nothing but its own folder."""

from __future__ import annotations

from typing import NamedTuple

from reconciler import errors, model
from reconciler.targets.openshift import document


class Text(NamedTuple):
    """A text of objects and the file that it is, or comes from."""

    where: str
    content: bytes


def render(desired: model.Desired, options: document.Options) -> Text:
    raise errors.ConfigError("render", f"render: {options.render} is not there yet", where=document.where(desired))
