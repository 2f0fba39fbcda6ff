"""What stands under `openshift:` and `connection:` in a target.yaml of this kind.

    spec:
      type: openshift
      connection: {kubeconfig: "vault:kv/prod/cluster#kubeconfig", impersonate: {user: deployer, groups: [payments]}}
      openshift:
        render: plain
        path: manifests
        namespaces: [payments]
        clusterKinds: [Namespace, ClusterRole]
        conflicts: fail
        foreignItems: report
        replace: ["Job/payments/migrate"]
        health: [{kind: Widget.example.com/v1, current: 'self.status.phase == "Ready"'}]

Pure; the payload is read by `manifests.py`, the kubeconfig by `kubeconfig.py`.
"""

from __future__ import annotations

import re
from typing import Annotated, Literal, Self

import pydantic

from reconciler import documents, errors, model, strict_yaml
from reconciler.targets.openshift import naming

OPAQUE = "files/"  # Below it no gate reads documents: what a target applies must not lie there.
MAX_EXPRESSION_CHARS = 2048
NEVER_REPLACED = frozenset(
    {"Namespace", "Project", "CustomResourceDefinition", "PersistentVolume", "PersistentVolumeClaim"}
)

# Of the control plane itself. Others that belong to the platform (`openshift-monitoring`) are reached by naming them.
_RESERVED_NAMESPACE = re.compile(r"kube-.*")
_SEGMENT = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,199}")  # No leading dot or dash: it stands in an argument vector.
_REFERENCE = re.compile(r"(vault|env|file):\S+")
_RULED_KIND = re.compile(rf"(?P<title>{naming.KIND}(\.{naming.GROUP})?)/(?P<version>v[-a-z0-9]{{1,62}})")


def check_path(text: str) -> str:
    """A relative path inside the target's folder that every reader takes for the same one (targets.md T01).

    Raises: ValueError.
    """
    if not all(_SEGMENT.fullmatch(part) for part in text.split("/")):
        raise ValueError(
            "a relative path of letters, digits, `.`, `_` and `-` is expected, without a leading `.` or `-`"
        )
    if f"{text}/".startswith(OPAQUE):
        raise ValueError(f"what lies under {OPAQUE} is read by no gate; put it elsewhere")
    return text


def _namespace(text: str) -> str:
    if not re.fullmatch(naming.NAMESPACE, text):
        raise ValueError(f"{text[:80]!r} is no name of a namespace; no patterns here")
    if _RESERVED_NAMESPACE.fullmatch(text):
        raise ValueError(f"{text} belongs to the control plane")
    return text


def _title(text: str) -> str:
    naming.parse_title(text)
    return text


def _key(text: str) -> str:
    try:
        naming.parse_key(model.Key(text))
    except errors.ConfigError as exc:
        raise ValueError(exc.message) from exc
    return text


def _replaceable(text: str) -> str:
    """Deleting one of these to make it anew takes what lives in it along (targets.md 2.3)."""
    kind = _key(text).partition("/")[0]
    if kind in NEVER_REPLACED:
        raise ValueError(f"a {kind} is never deleted in order to be made anew")
    return text


def _ruled(text: str) -> str:
    """`Widget.example.com/v1`: the group's dots hold no version, so that the last part is one."""
    match = _RULED_KIND.fullmatch(text)
    if match is None:
        raise ValueError("write Kind.group/version, such as Widget.example.com/v1")
    naming.parse_title(match["title"])
    return text


def _identity(text: str) -> str:
    """Text that goes into a header: an empty one would be no impersonation at all (targets.md T14)."""
    if not text.strip() or text != text.strip() or not text.isprintable() or not text.isascii():
        raise ValueError("an identity is printable ASCII, neither empty nor with space around it")
    return text


def _reference(text: str) -> str:
    """Not repeated in the message: it may be the secret itself."""
    if not _REFERENCE.fullmatch(text):
        raise ValueError("a reference is expected: vault:mount/path#key, env:NAME or file:/path")
    return text


PayloadPath = Annotated[str, pydantic.Field(max_length=1000), pydantic.AfterValidator(check_path)]
Namespace = Annotated[str, pydantic.AfterValidator(_namespace)]
Title = Annotated[str, pydantic.AfterValidator(_title)]
Replaceable = Annotated[str, pydantic.AfterValidator(_replaceable)]
Identity = Annotated[str, pydantic.Field(max_length=253), pydantic.AfterValidator(_identity)]
Expression = Annotated[str, pydantic.Field(min_length=1, max_length=MAX_EXPRESSION_CHARS)]


class HealthRule(documents.Camel):
    """When a custom resource is well, in CEL over `self`."""

    kind: Annotated[str, pydantic.AfterValidator(_ruled)]  # Widget.example.com/v1
    current: Expression
    failed: Expression | None = None


class Helm(documents.Camel):
    """How a vendored chart is rendered; `values` are files of this folder, later ones win."""

    release: Annotated[str, pydantic.Field(pattern=r"^[a-z0-9]([-a-z0-9]{0,51}[a-z0-9])?$")]
    values: tuple[PayloadPath, ...] = ()


class Options(documents.Camel):
    """What stands under `openshift:` in target.yaml."""

    render: Literal["plain", "kustomize", "helm"] = "plain"
    path: PayloadPath = "manifests"
    namespaces: tuple[Namespace, ...] = ()
    cluster_kinds: tuple[Title, ...] = ()
    conflicts: Literal["fail", "take"] = "fail"
    foreign_items: Literal["report", "remove"] = "report"
    replace: tuple[Replaceable, ...] = ()
    health: tuple[HealthRule, ...] = ()
    helm: Helm | None = None

    @pydantic.model_validator(mode="after")
    def _helm_is_for_helm(self) -> Self:
        if (self.helm is not None) != (self.render == "helm"):
            raise ValueError("`helm: {release: NAME}` stands there where `render: helm` does, and only there")
        return self


class Impersonate(documents.Camel):
    """Who every call is made as. Groups alone are nobody: the server refuses them, and so does this."""

    user: Identity
    groups: tuple[Identity, ...] = ()


class Connection(documents.Camel):
    kubeconfig: Annotated[str, pydantic.AfterValidator(_reference)] | None = None
    in_cluster: Annotated[bool, pydantic.Field(strict=True)] = False
    impersonate: Impersonate | None = None

    @pydantic.model_validator(mode="before")
    @classmethod
    def _nobody_is_not_said_by_null(cls, value: object) -> object:
        """`impersonate:` with nothing behind it is a forgotten identity, not the absence of one."""
        if isinstance(value, dict) and value.get("impersonate", value) is None:
            raise ValueError("impersonate: empty; name a user, or leave the field out")
        return value

    @pydantic.model_validator(mode="after")
    def _one_way_in(self) -> Self:
        if (self.kubeconfig is not None) == self.in_cluster:
            raise ValueError("write either kubeconfig: REFERENCE or inCluster: true")
        return self


def options(wanted: model.Wanted) -> Options:
    """Raises: ConfigError(schema). A snapshot has no document: what it holds is put back as it was."""
    if isinstance(wanted, model.Snapshot):
        return Options()
    try:
        return Options.model_validate(dict(wanted.spec))
    except ValueError as exc:
        raise strict_yaml.config_error(exc, _NO_LINES, where(wanted), ("spec", "openshift"), schema=Options) from exc


def connection(wanted: model.Wanted) -> Connection:
    """Raises: ConfigError(connection)."""
    try:
        return Connection.model_validate(dict(wanted.connection))
    except ValueError as exc:
        found = strict_yaml.config_error(exc, _NO_LINES, where(wanted), ("spec", "connection"), schema=Connection)
        fix = 'write connection: {kubeconfig: "vault:mount/path#key"}'
        raise errors.ConfigError("connection", found.message, where=where(wanted), fix=found.fix or fix) from exc


def where(wanted: model.Wanted) -> str:
    folder = wanted.folder or wanted.target if isinstance(wanted, model.Desired) else wanted.target
    return f"targets/{folder}/target.yaml"


_NO_LINES = strict_yaml.Located({}, {})
