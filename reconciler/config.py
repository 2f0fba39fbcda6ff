"""reconciler.yaml -> frozen values (design.md 6): flag > environment > file > default. No secret stands in it, only references.

What a later version will own is refused by name, never ignored: an installation that believes its log is anchored must not
run without the anchor.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Literal, NamedTuple, Self, TypeAlias, get_args
from urllib.parse import urlsplit

import pydantic
from pydantic import JsonValue
from pydantic.alias_generators import to_camel

from reconciler import documents, errors, model, strict_yaml

PREFIX = "RECONCILER_"
Verb = Literal["suspend", "resume", "reconcile", "rollback", "drop"]
VERBS: frozenset[str] = frozenset(get_args(Verb))

_PLACES = (Path("reconciler.yaml"), Path("/etc/reconciler/reconciler.yaml"))
_LATER: Mapping[strict_yaml.Path, str] = {
    ("anchor",): "checkpoints stay beside the log",
    ("gates", "opa"): "a development profile judges with the embedded engine",
    ("gates", "sonarqube"): "remove it, and the check from the targets",
    ("gates", "trivy"): "remove it, and the check from the targets",
}
# Kubernetes puts `RECONCILER_PORT` and the like into every pod beside a Service called `reconciler`.
_SERVICE_LINK = re.compile(r"(SERVICE_(HOST|PORT.*)|PORT(_.*)?)")
_VAULT_URL = re.compile(r"https?://[A-Za-z0-9.:\[\]-]+(/[A-Za-z0-9_-][A-Za-z0-9._-]*)*/?")
_LOCATION = re.compile(r"/(?!.*(^|/)\.\.?(/|$))[^\0]*")


class _Context(NamedTuple):
    """What a single field needs to know of its surroundings; pydantic carries it along."""

    base: Path  # relative paths start at the folder of the file
    production: bool


Info: TypeAlias = pydantic.ValidationInfo[_Context]


def _absolute(path: Path, info: Info) -> Path:
    return path if path.is_absolute() else (info.context.base / path).resolve()


def _without_password(url: str) -> str:
    if urlsplit(url).password is not None:
        raise ValueError(
            "a password stands in the URL; use a key, a client certificate or a reference such as env:NAME"
        )
    return url


def _git_url(url: str, info: Info) -> str:
    """`ssh://` and `https://`; a development profile may read a folder and plain HTTP, neither of which proves its origin."""
    scheme = urlsplit(url).scheme
    if scheme in {"ssh", "https"} and urlsplit(url).hostname:
        return url
    if scheme not in {"file", "http"} and not _LOCATION.fullmatch(url):
        raise ValueError(f"{url!r} is no URL that is read; write ssh://git@host/path or https://host/path")
    if info.context.production:
        raise ValueError(
            "a production profile reads ssh:// and https:// only; set `profile: development` to try it out"
        )
    return url


def _store_url(url: str) -> str:
    if not url.startswith("sqlite:///"):
        raise ValueError("the log is kept in SQLite in this version; write sqlite:////absolute/path")
    return url


def _reference(text: str) -> str:
    if text.startswith("vault:"):
        raise ValueError(
            "a vault is asked for the secrets of targets; this is needed before: use env:NAME or file:/path"
        )
    if not re.fullmatch(r"env:[A-Za-z_][A-Za-z0-9_]*|file:/[^\0]*", text):
        raise ValueError("a reference such as env:NAME or file:/path is expected, never the secret")
    return text


def _vault_url(url: str, info: Info) -> str:
    """`https://`; a development profile may ask a vault over plain HTTP, which shows every secret to whoever listens."""
    try:
        parts = urlsplit(url)
        whole = parts.hostname and parts.port != 0 and not (parts.query or parts.fragment or "@" in parts.netloc)
    except ValueError:
        whole = False
    if not whole or not _VAULT_URL.fullmatch(url):
        raise ValueError("a vault is written https://HOST:PORT")
    if parts.scheme == "http" and info.context.production:
        raise ValueError("a production profile asks a vault over https:// only")
    return url


def _listen(text: str) -> str:
    split_listen(text)
    return text


def split_listen(text: str) -> tuple[str, int]:
    """`127.0.0.1:8080` or `[::1]:8080` -> host and port.

    Raises: ValueError for anything else, names too: a name is answered for by somebody else.
    """
    host, colon, port = text.rpartition(":")
    if not colon or not port.isascii() or not port.isdecimal() or int(port) > 65535:  # noqa: PLR2004 - the highest port
        raise ValueError(f"{text!r} is no address and port; write 127.0.0.1:8080")
    return str(ipaddress.ip_address(host.removeprefix("[").removesuffix("]"))), int(port)


AbsolutePath = Annotated[Path, pydantic.AfterValidator(_absolute)]
GitUrl = Annotated[str, pydantic.AfterValidator(_without_password), pydantic.AfterValidator(_git_url)]
StoreUrl = Annotated[str, pydantic.AfterValidator(_without_password), pydantic.AfterValidator(_store_url)]
VaultUrl = Annotated[str, pydantic.AfterValidator(_without_password), pydantic.AfterValidator(_vault_url)]
Reference = Annotated[str, pydantic.AfterValidator(_reference)]
Segments = Annotated[str, pydantic.Field(pattern=r"^[A-Za-z0-9_-][A-Za-z0-9_.-]*(/[A-Za-z0-9_-][A-Za-z0-9_.-]*)*$")]
Listen = Annotated[str, pydantic.AfterValidator(_listen)]
FullOid = Annotated[str, pydantic.Field(pattern=r"^([0-9a-f]{40}|[0-9a-f]{64})$")]
Positive = Annotated[documents.Duration, pydantic.Field(gt=0)]


class Auth(documents.Camel):
    """How the source is reached: a key with the hosts it may be shown to, or a token."""

    ssh_key: AbsolutePath | None = None
    known_hosts: AbsolutePath | None = None
    token: Reference | None = None

    @pydantic.model_validator(mode="after")
    def _one_way(self) -> Self:
        if self.token and (self.ssh_key or self.known_hosts):
            raise ValueError("either sshKey with knownHosts, or token")
        if bool(self.ssh_key) != bool(self.known_hosts):
            raise ValueError("sshKey and knownHosts go together: a host that nobody knows is not asked")
        return self


class Denied(documents.Camel):
    """The quick answer to a stolen key (trust.md 2.3, P12): it only takes away."""

    commits: tuple[FullOid, ...] = ()
    keys: tuple[documents.NonEmpty, ...] = ()
    people: tuple[documents.NonEmpty, ...] = ()


class Source(documents.Camel):
    id: Annotated[str, pydantic.Field(pattern=r"^urn:uuid:[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$")]
    url: GitUrl
    ref: Annotated[str, pydantic.Field(pattern=r"^refs/heads/[A-Za-z0-9][A-Za-z0-9._/-]*$")] = "refs/heads/main"
    genesis: FullOid
    genesis_reason: documents.NonEmpty
    poll: Annotated[documents.Duration, pydantic.Field(ge=1)] = 30.0
    auth: Auth = Auth()
    denied: Denied = Denied()


class Store(documents.Camel):
    """The audit log. Without `url` it lies in the state folder. The key is never made on the way: it must be there."""

    url: StoreUrl | None = None
    signing_key: AbsolutePath


class Gates(documents.Camel):
    """Deadlines of one merge's checks, all started at once. Scanners and a running OPA are refused by name."""

    suite: Positive = 110.0
    per_gate: Positive = 90.0


class AppRole(documents.Camel):
    """References, read at every login. `mount`: where the method is mounted below auth/."""

    role_id: Reference
    secret_id: Reference
    mount: Segments = "approle"


class Jwt(documents.Camel):
    """A signed token of somebody whom the vault trusts, read at every login."""

    role: documents.NonEmpty
    jwt: Reference
    mount: Segments = "jwt"


class KubernetesJwt(documents.Camel):
    """The service account that this process runs as in a cluster."""

    role: documents.NonEmpty
    jwt: Reference = "file:/var/run/secrets/kubernetes.io/serviceaccount/token"
    mount: Segments = "kubernetes"


class VaultAuth(documents.Camel):
    """Who the daemon is to a vault: one of these. References only, in every profile."""

    approle: AppRole | None = None
    jwt: Jwt | None = None
    kubernetes: KubernetesJwt | None = None
    token: Reference | None = None

    @pydantic.model_validator(mode="after")
    def _one_way(self) -> Self:
        if sum(way is not None for way in (self.approle, self.jwt, self.kubernetes, self.token)) != 1:
            raise ValueError("name exactly one of approle, jwt, kubernetes and token")
        return self


class Vault(documents.Camel):
    """HashiCorp Vault or OpenBao: what `vault:mount/path#key` is resolved from."""

    url: VaultUrl
    namespace: Segments | None = None
    ca_file: AbsolutePath | None = None  # PEM; without it the system's own trust
    auth: VaultAuth
    timeout: Annotated[documents.Duration, pydantic.Field(gt=0, le=300)] = 30.0  # of one answer as a whole


class Secrets(documents.Camel):
    """Where references to secrets lead, beyond `env:NAME` and `file:/path`."""

    vault: Vault | None = None


class Operator(documents.Camel):
    """Who may do what over the socket: one of a user, a group or a uid of this machine."""

    user: documents.NonEmpty | None = None
    group: documents.NonEmpty | None = None
    uid: Annotated[int, pydantic.Field(ge=0)] | None = None
    verbs: Annotated[tuple[Verb, ...], pydantic.Field(min_length=1)]

    @pydantic.model_validator(mode="after")
    def _one_subject(self) -> Self:
        if sum(subject is not None for subject in (self.user, self.group, self.uid)) != 1:
            raise ValueError("name exactly one of user, group and uid")
        return self


class Local(documents.Camel):
    roots: tuple[AbsolutePath, ...] = ()


class Plugins(documents.Camel):
    """Names of distributions beside this one whose entry points may be loaded: a plug-in is arbitrary code."""

    allow: tuple[documents.NonEmpty, ...] = ()


class Web(documents.Camel):
    listen: Listen | None = "127.0.0.1:8080"  # null: no TCP at all
    unsafe_public: bool = False

    @pydantic.model_validator(mode="after")
    def _loopback(self) -> Self:
        if (
            self.listen
            and not self.unsafe_public
            and not ipaddress.ip_address(split_listen(self.listen)[0]).is_loopback
        ):
            raise ValueError("listen: only loopback; put a proxy in front, or say unsafePublic: true")
        return self


class Configuration(documents.Camel):
    """Everything that the daemon is told. `digest` goes into the log: a change of it is a record."""

    api_version: Literal["reconciler/v1"]
    kind: Literal["Reconciler"]
    installation: Annotated[str, pydantic.Field(pattern=r"^[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?$")]
    profile: Literal["production", "development"] = "production"
    state: AbsolutePath
    source: Source
    store: Store
    gates: Gates = Gates()
    secrets: Secrets = Secrets()
    operators: tuple[Operator, ...] = ()
    local: Local = Local()
    plugins: Plugins = Plugins()
    web: Web = Web()

    @property
    def digest(self) -> model.Digest:
        """SHA-256 of the effective configuration: canonical JSON, defaults and overrides in."""
        return model.sha256(model.canonical_json(self.model_dump(mode="json", by_alias=True)))

    @property
    def production(self) -> bool:
        return self.profile == "production"

    @property
    def socket(self) -> Path:
        return self.state / "daemon.sock"

    @property
    def lock(self) -> Path:
        return self.state / "lock"

    @property
    def store_url(self) -> str:
        return self.store.url or f"sqlite:///{self.state / 'audit.db'}"

    @property
    def warnings(self) -> tuple[str, ...]:
        """What a person is told each time that this configuration is used."""
        said = []
        if not self.production:
            said.append("profile: development; stand-ins and unprotected transports are allowed")
        if self.web.unsafe_public:
            said.append(f"web.unsafePublic: everybody who reaches {self.web.listen} reads what this daemon knows")
        return tuple(said)


def find(flag: Path | None, environment: Mapping[str, str]) -> Path | None:
    """The file to read: --config, $RECONCILER_CONFIG, ./reconciler.yaml, /etc/reconciler/reconciler.yaml; None: there is none.

    Raises: ConfigError when the one that was named is not there: the next place is no answer to a typing error.
    """
    named = flag or (Path(environment[f"{PREFIX}CONFIG"]) if environment.get(f"{PREFIX}CONFIG") else None)
    if named is None:
        return next((place for place in _PLACES if place.is_file()), None)
    if not named.is_file():
        raise errors.ConfigError("config", "no such file", where=str(named), fix="name it with --config FILE")
    return named


def load(
    path: Path | None, environment: Mapping[str, str], flags: Mapping[str, JsonValue] | None = None
) -> Configuration:
    """Read `path`, lay the environment and then the flags (`{"source.url": "..."}`) over it, and check the whole.

    Raises: ConfigError with everything that is wrong in its message and the first place as its own.
    """
    located = _read(path)
    document = strict_yaml.mapping(located, str(path))
    overlaid: dict[strict_yaml.Path, str] = {}
    for name, at, value in (*_from_environment(environment), *_from_flags(flags or {})):
        _put(document, at, value, name)
        overlaid[at] = name
    if path is None and not overlaid:
        places = ", ".join(f"./{p}" if not p.is_absolute() else str(p) for p in _PLACES)
        raise errors.ConfigError(
            "config",
            f"no configuration: looked at {places}",
            fix="run `reconciler init --person NAME=KEY.pub DIR`, or name it with --config FILE",
        )
    wrong = list(_later(document))
    context = _Context(
        base=path.resolve().parent if path else Path.cwd(), production=document.get("profile") != "development"
    )
    try:
        configuration = Configuration.model_validate(_without_later(document), context=context)
    except pydantic.ValidationError as exc:
        configuration = None
        wrong += [
            (tuple(e["loc"]), strict_yaml.complaint(e), strict_yaml.suggestion(e, Configuration))
            for e in exc.errors(include_url=False, include_input=False)
        ]
    if wrong or configuration is None:
        # Not chained to pydantic's error: that repeats what was written, which may be the secret itself.
        raise _error(wrong, located, path, overlaid)
    return configuration


def _read(path: Path | None) -> strict_yaml.Located:
    if path is None:
        return strict_yaml.Located({"apiVersion": documents.API_VERSION, "kind": "Reconciler"}, {})
    try:
        blob = path.read_bytes()
    except OSError as exc:
        raise errors.ConfigError("config", f"cannot be read: {exc.strerror}", where=str(path)) from exc
    return strict_yaml.parse(blob, str(path))


def _from_environment(environment: Mapping[str, str]) -> Iterator[tuple[str, strict_yaml.Path, JsonValue]]:
    """`RECONCILER_SOURCE__GENESIS_REASON=...` is `source.genesisReason`; lists and mappings are written as in YAML, on one line."""
    for name in sorted(environment):
        rest = name.removeprefix(PREFIX)
        if rest in {name, "CONFIG"} or _SERVICE_LINK.fullmatch(rest):
            continue
        value: JsonValue = environment[name]
        if environment[name].startswith(("[", "{")):
            value = strict_yaml.parse(environment[name].encode(), f"${name}").value
        yield f"${name}", tuple(to_camel(part.lower()) for part in rest.split("__")), value


def _from_flags(flags: Mapping[str, JsonValue]) -> Iterator[tuple[str, strict_yaml.Path, JsonValue]]:
    for name, value in flags.items():
        yield f"flag {name}", tuple(name.split(".")), value


def _put(document: dict[str, JsonValue], at: strict_yaml.Path, value: JsonValue, name: str) -> None:
    for part in at[:-1]:
        inner = document.setdefault(str(part), {})
        if not isinstance(inner, dict):
            raise errors.ConfigError("config", f"{part} is no mapping", where=name)
        document = inner
    document[str(at[-1])] = value


def _later(document: Mapping[str, JsonValue]) -> Iterator[tuple[strict_yaml.Path, str, str]]:
    for at, instead in _LATER.items():
        value: JsonValue = dict(document)
        for part in at:
            value = value.get(str(part)) if isinstance(value, dict) else None
        if value is not None:
            yield at, "not in this version", instead


def _without_later(document: Mapping[str, JsonValue]) -> dict[str, JsonValue]:
    """What is refused by name shall not be refused again as unknown."""
    kept = {k: v for k, v in document.items() if (k,) not in _LATER}
    for at in _LATER:
        inner = kept.get(str(at[0]))
        if len(at) > 1 and isinstance(inner, dict):
            kept[str(at[0])] = {k: v for k, v in inner.items() if k != at[1]}
    return kept


def _error(
    wrong: list[tuple[strict_yaml.Path, str, str]],
    located: strict_yaml.Located,
    path: Path | None,
    overlaid: Mapping[strict_yaml.Path, str],
) -> errors.ConfigError:
    def place(at: strict_yaml.Path) -> str:
        named = [overlaid[at[:n]] for n in range(len(at), 0, -1) if at[:n] in overlaid]
        return named[0] if named else f"{path}:{located.line(at)}" if path else "environment"

    said = [": ".join(part for part in (".".join(map(str, at)), message) if part) for at, message, _ in wrong]
    fixes = dict.fromkeys(fix for _, _, fix in wrong if fix)
    return errors.ConfigError("config", "; ".join(said), where=place(wrong[0][0]), fix="; ".join(fixes))
