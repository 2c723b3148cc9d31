"""What is installed: the list of packages, the pins, the model inside the wheel."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import pytest

if sys.version_info >= (3, 11):
    import tomllib
else:
    tomllib = pytest.importorskip("tomli")

CHECKOUT = Path(__file__).resolve().parents[1]
PROJECT = tomllib.loads((CHECKOUT / "pyproject.toml").read_text("utf-8"))
PINS = [
    line
    for line in (CHECKOUT / "requirements.txt").read_text("utf-8").splitlines()
    if line and not line.startswith("#")
]


def requirement_name(line: str) -> str:
    return re.split(r"[\[=<>;! ]", line, maxsplit=1)[0].lower()


def test_every_folder_of_the_package_is_in_the_wheel() -> None:
    lib = CHECKOUT / "lib"
    folders = {
        ".".join(init.parent.relative_to(lib).parts)
        for init in (lib / "resmtnet").rglob("__init__.py")
    }
    assert set(PROJECT["tool"]["setuptools"]["packages"]) == folders | {"resmtnet.shipped_model"}


def test_every_kind_of_file_of_the_model_is_in_the_wheel() -> None:
    patterns = PROJECT["tool"]["setuptools"]["package-data"]["resmtnet.shipped_model"]
    model = CHECKOUT / "model"
    packed = {path for pattern in patterns for path in model.glob(pattern)}
    assert {path for path in model.iterdir() if path.name[0] != "."} == packed


def test_the_version_is_written_once_more_and_agrees() -> None:
    import resmtnet

    assert resmtnet.__version__ == PROJECT["project"]["version"]


def test_requirements_are_exact_pins_and_end_with_the_project() -> None:
    assert PINS[-1] == "-e ."
    assert [
        line for line in PINS[:-1] if not re.match(r"[\w.-]+(\[\w+\])?==[\d.]+(;|$)", line)
    ] == []


def test_every_declared_dependency_is_pinned() -> None:
    project = PROJECT["project"]
    declared = set(project["dependencies"]).union(*project["optional-dependencies"].values())
    pinned = {requirement_name(line) for line in PINS}
    assert {requirement_name(line) for line in declared} - pinned == set()


def test_the_app_folder_holds_a_short_main_alone() -> None:
    main = CHECKOUT / "apps" / "resmtnet" / "main.py"
    assert len(main.read_text("utf-8").splitlines()) <= 80
    listed = {path.name for path in main.parent.glob("*.py")}
    assert listed == {"main.py"}
