"""Every driver holds targets.md 1.9; the checks themselves ship in the package."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from pathlib import Path

import pytest
from support import kube as planes
from support import openshift, targets

from reconciler.targets import conformance

SUBJECTS: dict[str, Callable[[Path], conformance.Subject]] = {
    "memory": lambda _folder: targets.MemorySubject(),
    "vm": targets.VmSubject,
}


@pytest.mark.parametrize("subject", SUBJECTS.values(), ids=SUBJECTS.keys())
@pytest.mark.parametrize("check", conformance.CHECKS.values(), ids=conformance.CHECKS.keys())
def test_every_driver_holds_what_the_contract_says(
    check: Callable[[conformance.Make], None], subject: Callable[[Path], conformance.Subject], tmp_path: Path
) -> None:
    numbers = itertools.count()
    check(lambda: subject(tmp_path / str(next(numbers))))
    assert next(numbers) > 0, "the check asked for no subject"


@pytest.mark.parametrize("check", conformance.CHECKS.values(), ids=conformance.CHECKS.keys())
def test_openshift_holds_what_the_contract_says(
    check: Callable[[conformance.Make], None], kube: planes.ControlPlane, tmp_path: Path
) -> None:
    made: list[openshift.Subject] = []

    def make() -> conformance.Subject:
        made.append(openshift.Subject(kube, tmp_path / str(len(made))))
        return made[-1]

    try:
        check(make)
    finally:
        for each in made:
            each.close()
    assert made, "the check asked for no subject"
