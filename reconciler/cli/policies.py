"""`policy lint`: what admission would refuse of an approval policy, and what it warns of; what the gate `opa` would refuse beside it."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Literal

import typer
from pydantic import JsonValue

from reconciler import errors, model
from reconciler.admission import lint as linter
from reconciler.admission import policy as policies
from reconciler.cli import clone, exit_codes, options, printing
from reconciler.git import repository, store

app = typer.Typer(rich_markup_mode=None)
policy = typer.Typer(help="The approval policy.", no_args_is_help=True, rich_markup_mode=None)
app.add_typer(policy, name="policy")


@policy.command("lint")
def lint(
    file: Annotated[Path, typer.Argument(metavar="[FILE]")] = Path(policies.PATH),
    *,
    profile: Annotated[Literal["production", "development"], typer.Option("--profile")] = "production",
    output: options.OutputOption = options.Output.TABLE,
) -> int:
    """Judge an approval policy before anybody else does, and run the tests of the Rego beside it. Exits with 2 where one would be refused."""
    try:
        blob = file.read_bytes()
    except OSError as exc:
        raise errors.ConfigError(
            "policy_lint", "no policy can be read there", where=str(file), fix="name the file"
        ) from exc
    found = _lint(blob, file, production=profile == "production")
    packages, refused = _prove(file.parent)
    wrong = (*found.errors, *refused)
    document: dict[str, JsonValue] = {"apiVersion": "reconciler/v1", "kind": "Findings"}
    document |= {
        "errors": [reason.model_dump() for reason in wrong],
        "warnings": [reason.model_dump() for reason in found.warnings],
        "packages": list(packages),
    }
    printing.emit(document, output, _show)
    return exit_codes.USAGE if wrong else exit_codes.FINE


def _lint(blob: bytes, file: Path, *, production: bool) -> linter.Findings:
    """Against the repository that the policy names: whether the daemon watches the same one, only the daemon knows."""
    try:
        repo = policies.parse_policy(blob).repository
    except errors.ConfigError as exc:
        return linter.Findings((model.Reason.of(exc),))
    return linter.lint(
        blob, source_id=repo.id, source_ref=repo.ref, now=datetime.now(UTC), production=production, paths=_paths(file)
    )


def _prove(folder: Path) -> tuple[tuple[str, ...], model.ValidationResult]:
    """The Rego packages of this folder as the gate loads them, guarded and proven by their tests; or what is wrong first."""
    files = sorted(path for path in folder.rglob("*.rego") if path.is_file())
    if not files:
        return (), ()
    from reconciler.gates import library

    try:
        loaded = library.load(tuple((path.as_posix(), path.read_bytes()) for path in files))
    except errors.ConfigError as exc:
        return (), (model.Reason.of(exc),)
    return loaded.chosen(""), ()


def _paths(file: Path) -> tuple[bytes, ...]:
    """Of the repository whose policy this is, to find patterns that match nothing; of a copy that lies deeper in one, none."""
    place = file.absolute()
    root = place.parent.parent
    if place != root / policies.PATH or not (root / ".git").exists() or not clone.is_clone(root):
        return ()
    with repository.GitRepository(store.find_git_dir(root)) as objects:
        try:
            return tuple(objects.tree(objects.resolve("HEAD")))
        except errors.ConfigError:
            return ()


def _show(document: printing.Document) -> None:
    for kind in ("errors", "warnings"):
        listed = document.get(kind)
        for each in listed if isinstance(listed, list) else []:
            if isinstance(each, dict):
                printing.out(f"{kind.removesuffix('s')}: {printing.reason(each)}")
    if not document.get("errors"):
        packages = document.get("packages")
        proven = f", and so do the tests of {printing.text(packages)}" if packages else ""
        printing.out(f"the policy holds{proven}")
