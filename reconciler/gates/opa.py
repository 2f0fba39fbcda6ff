"""The gate `opa`: compliance policies in Rego, on the embedded engine (development only).

deploy: {checks: [{opa: compliance_policy}]}     # a package, or a file of policies/; none: all packages

What a policy sees as `input`, one target at a time:

    target        name, type, environment, labels, mode, connection, dependsOn, spec (the driver's own part),
                  document (all of target.yaml)
    files         path in the folder -> the value of each YAML or JSON file; several documents in one are an array;
                  `/rendered.yaml`: what kustomize or helm makes of the folder, where the target says so
    texts         path -> text of every file that is UTF-8 and at most 256 KiB; `opaque`: the paths of all others
    before        the same four of the last confirmed state, or null
    change        revision, head, policies, targets
    acknowledged  [{hazard, key}]

What it says: `deny contains "text"`, or `deny contains {"msg": "text", "file": "vm.yaml", "path": ["files", 0, "mode"],
"fix": "...", "rule": "loose_mode"}`; without `file` the path is one of target.yaml. `warn` alike, without blocking.
`rule` names what people may waive: `compliance_policy.loose_mode`. Without it they waive exactly this text.
"""

from __future__ import annotations

import json
import threading
from collections import OrderedDict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

import pydantic
from pydantic import JsonValue

from reconciler import errors, model, ports
from reconciler.gates import embedded, library, sources

MAX_INPUT_BYTES = 4 << 20
MAX_FINDINGS = 100
_REMEMBERED = 256

_Answer = tuple[JsonValue, ...]
_answers: OrderedDict[tuple[model.Digest, tuple[str, ...], model.Digest], _Answer] = OrderedDict()
_lock = threading.Lock()


class _Said(model.Value):
    """One element of `deny` or `warn`. A misspelt field is refused: it could hide the message."""

    msg: str = pydantic.Field(min_length=1)
    file: str = "target.yaml"
    path: tuple[int | str, ...] = ()
    fix: str = ""
    rule: str = pydantic.Field(default="", pattern=r"^([a-z][a-z0-9_]{0,62})?$")


class OpaGate:
    """A function of the change and the policies: the same content is evaluated once in a process."""

    def __init__(self, check: model.Check, facilities: ports.GateFacilities) -> None:
        """Raises: ConfigError(opa_embedded) in a production profile; ConfigError(options) for options: it has none."""
        if facilities.production:
            raise errors.ConfigError(
                "opa_embedded",
                "a production profile does not trust the embedded engine, and this version has no other",
                fix="judge with `schema` and `rollback`, or use the profile development",
            )
        if check.options:
            raise errors.ConfigError(
                "options", f"{check.title}: no option `{check.options[0][0]}`", fix="remove `with`"
            )
        self._profile, self._repository = check.profile, facilities.repository
        self._drivers = facilities.drivers

    def check(self, change: model.Change, deadline_s: float) -> model.GateResult:
        """Raises: ConfigError(rego) when the policies cannot be trusted to say no, or the engine fails on this input."""
        policies = library.read_library(self._repository, change.policies)
        packages = policies.chosen(self._profile)
        files = {name: self._files(change.after[name]) for name in sorted(change.targets & change.after.keys())}
        refused = (file.refused for each in files.values() for file in each.values())
        found = [("deny", _unanswerable(each)) for each in refused if each]
        read = [name for name, each in files.items() if not any(file.refused for file in each.values())]
        shown = [_printed(self._input(change, name, files[name])) for name in read]
        rules = [(package, rule) for package in packages for rule in policies.rules(package)]
        answers = _evaluated(policies, tuple(f"data.{package}.{rule}" for package, rule in rules), shown, deadline_s)
        for name, answer in zip(read, answers, strict=True):
            found += _judge(rules, answer, files[name])
        denied = tuple(reason for rule, reason in found if rule == "deny")
        warned = tuple(reason.model_copy(update={"code": model.WARNING}) for rule, reason in found if rule == "warn")
        outcome = model.Outcome.FAIL if denied else model.Outcome.PASS
        return model.GateResult(outcome=outcome, findings=(_cut(denied) + warned)[:MAX_FINDINGS])

    def _files(self, desired: model.Desired) -> dict[str, sources.File]:
        files = {file.path: file for file in self._unrendered(desired)}
        rendered = sources.read_rendered(desired, self._drivers)
        if rendered is None:
            return files
        made, inputs = rendered  # A template of a chart is no document; what comes out of it is.
        shown = {path: replace(file, refused=None) if path in inputs else file for path, file in files.items()}
        return {**shown, made.path: made}

    def _unrendered(self, desired: model.Desired) -> Iterator[sources.File]:
        yield sources.read_document(self._repository, desired)
        yield from sources.read_payload(desired)

    def _former_files(self, desired: model.Desired) -> dict[str, sources.File]:
        """Of a state that was let in before: that it cannot be rendered any more must not keep what mends it out."""
        try:
            return self._files(desired)
        except errors.ConfigError:
            return {file.path: file for file in self._unrendered(desired)}

    def _input(self, change: model.Change, name: str, files: Mapping[str, sources.File]) -> JsonValue:
        before, asked = change.before.get(name), change.acknowledged.get(name, frozenset())
        shown = {
            **_side(change.after[name], files),
            "before": _side(before, self._former_files(before)) if before else None,
            "change": {
                "revision": change.revision,
                "head": change.head,
                "policies": change.policies,
                "targets": sorted(change.targets),
            },
            "acknowledged": [{"hazard": hazard, "key": key} for hazard, key in sorted(asked)],
        }
        return sources.as_json(shown)


def _side(desired: model.Desired, files: Mapping[str, sources.File]) -> dict[str, object]:
    payload = [file for path, file in files.items() if path != "target.yaml"]
    return {
        "target": {
            "name": desired.target,
            "type": desired.kind,
            "environment": desired.environment,
            "labels": desired.labels,
            "mode": desired.mode,
            "connection": desired.connection,
            "dependsOn": list(desired.depends_on),
            "spec": desired.spec,
            "document": files["target.yaml"].value,
        },
        "files": {file.path: file.value for file in payload if file.parts},
        "texts": {file.path: file.text for file in payload if file.text is not None},
        "opaque": sorted(file.path for file in payload if file.text is None),
    }


def _judge(
    rules: Sequence[tuple[str, str]], answer: _Answer, files: Mapping[str, sources.File]
) -> list[tuple[str, model.Reason]]:
    """Every `deny` and `warn` about one target, by place: a set has no order of its own."""
    found = [
        (rule, _reason(package, said, files))
        for (package, rule), value in zip(rules, answer, strict=True)
        for said in _said(package, rule, value)
    ]
    return sorted(found, key=lambda each: (*_place(each[1]), each[1].message))


def _place(reason: model.Reason) -> tuple[str, int]:
    path, _, line = reason.where.rpartition(":")
    return path, int(line)


def _unanswerable(reason: model.Reason) -> model.Reason:
    """It hides what else the policies would say."""
    return reason.model_copy(update={"rule": model.NOBODYS})


def _cut(denied: tuple[model.Reason, ...]) -> tuple[model.Reason, ...]:
    """What is not listed can be answered for by nobody: the last line says that there is more."""
    if len(denied) <= MAX_FINDINGS:
        return denied
    more = f"{len(denied) - MAX_FINDINGS + 1} more findings"
    return (*denied[: MAX_FINDINGS - 1], _unanswerable(model.Reason(code="more", message=more, fix="mend these first")))


def _printed(shown: JsonValue) -> str:
    text = json.dumps(shown, sort_keys=True)
    if "\\u0000" in text:  # The engine reads C strings: what follows a NUL would not be judged.
        raise errors.ConfigError("opa_input", "a NUL character in a document", fix="remove it")
    if len(text) > MAX_INPUT_BYTES:
        raise errors.ConfigError("opa_input", f"a target of more than {MAX_INPUT_BYTES} bytes", fix="split it")
    return text


def _evaluated(
    policies: library.Library, queries: tuple[str, ...], shown: Sequence[str], deadline_s: float
) -> list[_Answer]:
    """The value of every query for every input; what this process has not asked before goes to one engine."""
    asked = {(policies.digest, queries, model.sha256(text.encode())): text for text in shown}
    with _lock:
        known = {question: _answers[question] for question in asked if question in _answers}
    new = [question for question in asked if question not in known]
    if new:
        each = [(query, json.loads(asked[question])) for question in new for query in queries]
        (values,) = embedded.evaluate([embedded.Session(dict(policies.sources), tuple(each))], within_s=deadline_s)
        known |= {question: values[i * len(queries) :][: len(queries)] for i, question in enumerate(new)}
    with _lock:
        _answers.update((question, known[question]) for question in new)
        while len(_answers) > _REMEMBERED:
            _answers.popitem(last=False)
    return [known[policies.digest, queries, model.sha256(text.encode())] for text in shown]


def _said(package: str, rule: str, value: JsonValue) -> list[_Said]:
    """A set, as the engine prints it: an array. Anything else, and any element that is no message, is an error."""
    if not isinstance(value, list):
        raise errors.ConfigError("rego", f"data.{package}.{rule} is no set", fix=f"write `{rule} contains ...`")
    try:
        return [_Said(msg=each) if isinstance(each, str) else _Said.model_validate(each) for each in value]
    except pydantic.ValidationError as exc:
        raise errors.ConfigError(
            "rego",
            f"data.{package}.{rule} said something that is neither a text nor {{msg, file, path, fix}}",
            fix="see the head of the rule",
        ) from exc


def _reason(package: str, said: _Said, files: Mapping[str, sources.File]) -> model.Reason:
    file = files.get(said.file)
    where = file.place(said.path) if file else files["target.yaml"].place(())
    fix = said.fix or f"change it so that {package} agrees"
    rule = f"{package}.{said.rule}" if said.rule else f"{package}:{model.sha256(said.msg.encode())[:12]}"
    return model.Reason(code="policy", message=f"{package}: {said.msg}", where=where, fix=fix, rule=rule)
