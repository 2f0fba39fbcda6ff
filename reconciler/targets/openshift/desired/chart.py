"""What a chart may bring: its own files, vendored in Git, and no archive (targets.md 2.5, T03). Its templates are helm's to read."""

from __future__ import annotations

from collections.abc import Mapping

from reconciler import errors, strict_yaml
from reconciler.targets.openshift import document

_ARCHIVES = (".tgz", ".tar", ".tar.gz", ".gz", ".zip")


def check(payload: Mapping[str, bytes], options: document.Options, folder: str) -> None:
    """Hold the chart at `path` and everything below it. `folder`: `targets/NAME/`, for errors.

    Raises: ConfigError(parse | render) with file and line.
    """
    _chart(payload, options.path, folder)
    for path in sorted(payload):
        if path.startswith(f"{options.path}/") and path.endswith(_ARCHIVES):
            raise _refusal(folder + path, "an archive, which nobody can read in a request", "unpack it into charts/")
    values = options.helm.values if options.helm else ()
    for path in (*values, *(p for p in payload if p.startswith(f"{options.path}/") and p.endswith("/values.yaml"))):
        if path not in payload:
            raise _refusal(
                f"{folder}target.yaml", f"{path} is not in the target's folder", "add it, or correct helm.values"
            )
        strict_yaml.parse(payload[path], folder + path)


def _chart(payload: Mapping[str, bytes], path: str, folder: str) -> None:
    """Each dependency must lie there by its name: helm would ask for what is missing, or leave it out."""
    file = f"{path}/Chart.yaml"
    if file not in payload:
        raise _refusal(f"{folder}{path}/", "there is no Chart.yaml", "vendor the chart, or correct spec.openshift.path")
    located = strict_yaml.parse(payload[file], folder + file)
    wanted = strict_yaml.mapping(located, folder + file).get("dependencies")
    for index, entry in enumerate(wanted if isinstance(wanted, list) else ()):
        name = entry.get("name") if isinstance(entry, dict) else None
        below = f"{path}/charts/{name}"
        if f"{below}/Chart.yaml" not in payload:
            where = f"{folder}{file}:{located.line(('dependencies', index))}"
            raise _refusal(
                where, f"the chart {name} is not vendored", f"helm dependency build, then unpack it into {below}/"
            )
        _chart(payload, below, folder)


def _refusal(where: str, message: str, fix: str) -> errors.ConfigError:
    return errors.ConfigError("render", message, where=where, fix=fix)
