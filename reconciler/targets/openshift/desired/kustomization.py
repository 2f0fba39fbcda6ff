"""What a kustomization may say: files of its own target, and nothing that runs, fetches, or makes secrets (targets.md 2.5).

kustomize takes what is no file for a URL and asks the network or git for it. Therefore every path that a kustomization names
must be one of the payload's, which is checked here, before anything runs; and every YAML that it takes in passes the strict
loader, because kustomize itself reads `0777` as 511.
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Iterator, Mapping

from pydantic import JsonValue

from reconciler import errors, strict_yaml

NAMES = ("kustomization.yaml", "kustomization.yml", "Kustomization")

_FOLDERS = ("resources", "components", "bases")  # Files, or folders with a kustomization.
_PATCHES = ("patchesStrategicMerge",)  # Files, or YAML of several lines.
_FILES = ("configurations", "crds")
_INSIDE = ("patches", "patchesJson6902", "replacements")  # Mappings that may have a `path`.
_HARMLESS = frozenset(
    {
        *("apiVersion", "kind", "metadata", "namespace", "namePrefix", "nameSuffix", "labels", "commonLabels"),
        *("commonAnnotations", "images", "replicas", "generatorOptions", "sortOptions", "vars", "buildMetadata"),
    }
)
_KNOWN = _HARMLESS | {*_FOLDERS, *_PATCHES, *_FILES, *_INSIDE, "configMapGenerator"}
_REFUSED: Mapping[str, str] = {
    "secretGenerator": "declare a Secret whose stringData holds references",
    **dict.fromkeys(
        ("helmCharts", "helmChartInflationGenerator", "helmGlobals"), "write render: helm, or vendor what it renders"
    ),
    **dict.fromkeys(("generators", "transformers", "validators"), "write patches: plugins are not run"),
}
_PATH = re.compile(r"(\.{1,2}/)*[A-Za-z0-9_][A-Za-z0-9._-]*(/[A-Za-z0-9_][A-Za-z0-9._-]*)*/?|\.{1,2}(/\.\.)*/?")


def check(payload: Mapping[str, bytes], path: str, folder: str) -> None:
    """Hold every kustomization of this payload. `path`: the one that is rendered; `folder`: `targets/NAME/`, for errors.

    Raises: ConfigError(parse | render) with file and line.
    """
    if not any(f"{path}/{name}" in payload for name in NAMES):
        fix = "add it, or correct spec.openshift.path"
        raise errors.ConfigError("render", "there is no kustomization.yaml", where=f"{folder}{path}/", fix=fix)
    taken: set[str] = set()
    for file in sorted(payload):
        if posixpath.basename(file) in NAMES:
            taken |= set(_Kustomization(payload, file, folder).inputs())
    for file in sorted(taken):
        if posixpath.basename(file) not in NAMES:
            strict_yaml.parse_all(payload[file], folder + file)


class _Kustomization:
    def __init__(self, payload: Mapping[str, bytes], file: str, folder: str) -> None:
        self._payload, self._folder = payload, folder
        self._base, self._where = posixpath.dirname(file), folder + file
        self._located = strict_yaml.parse(payload[file], self._where)
        self._document = strict_yaml.mapping(self._located, self._where)

    def inputs(self) -> Iterator[str]:
        """The YAML files that it takes in. Raises at the first thing that it may not say."""
        for name, value in self._document.items():
            if name in _REFUSED:
                raise self._refusal((name,), f"{name} is refused", _REFUSED[name])
            if name not in _KNOWN:
                raise self._refusal((name,), f"{name} is not known to be harmless", "leave it out")
            entries = value if isinstance(value, list) else []
            for index, entry in enumerate(entries):
                yield from self._entry(name, entry, (name, index))

    def _entry(self, name: str, entry: JsonValue, at: strict_yaml.Path) -> Iterator[str]:
        match entry:
            case str() if name in _FOLDERS:
                yield from self._file_or_folder(entry, at)
            case str() if name in _FILES:
                yield self._file(entry, at)
            case str() if name in _PATCHES:
                if "\n" in entry:
                    strict_yaml.parse_all(entry.encode(), f"{self._where}:{self._located.line(at)}")
                else:
                    yield self._file(entry, at)
            case dict() if name in _INSIDE and "path" in entry:
                yield self._file(entry["path"], (*at, "path"))
            case dict() if name == "configMapGenerator":
                self._generator(entry, at)

    def _generator(self, entry: Mapping[str, JsonValue], at: strict_yaml.Path) -> None:
        """Its files are content, not YAML: they need to be there and nothing else. `key=path` gives a name."""
        env = entry.get("env")
        for section in ("files", "envs"):
            files = entry.get(section)
            for index, each in enumerate(files if isinstance(files, list) else ()):
                text = each.rpartition("=")[2] if isinstance(each, str) and section == "files" else each
                self._file(text, (*at, section, index))
        if env is not None:
            self._file(env, (*at, "env"))

    def _file_or_folder(self, entry: str, at: strict_yaml.Path) -> Iterator[str]:
        path = self._inside(entry, at)
        if path in self._payload:
            yield path
        elif not any(posixpath.join(path, name) in self._payload for name in NAMES):
            raise self._absent(entry, at)

    def _file(self, entry: JsonValue, at: strict_yaml.Path) -> str:
        path = self._inside(entry, at)
        if path not in self._payload:
            raise self._absent(entry, at)
        return path

    def _inside(self, entry: JsonValue, at: strict_yaml.Path) -> str:
        """The path in the payload: no URL, nothing absolute, nothing above the target's folder."""
        if not isinstance(entry, str) or not _PATH.fullmatch(entry):
            raise self._refusal(at, "no path of a file here", "vendor it into the target's folder; nothing is fetched")
        path = posixpath.normpath(posixpath.join(self._base, entry))
        if path.startswith("..") or path == ".":
            raise self._refusal(at, f"{entry} leads out of the target's folder", "vendor it into the target's folder")
        return path

    def _absent(self, entry: JsonValue, at: strict_yaml.Path) -> errors.ConfigError:
        fix = "add it, or correct the path; nothing is fetched"
        return self._refusal(at, f"{entry} is not in the target's folder", fix)

    def _refusal(self, at: strict_yaml.Path, message: str, fix: str) -> errors.ConfigError:
        return errors.ConfigError("render", message, where=f"{self._where}:{self._located.line(at)}", fix=fix)
