"""The layer rule of the package, what its import costs, and what its files must not contain."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from functools import cache
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

CHECKOUT = Path(__file__).resolve().parents[1]
SOURCE = CHECKOUT / "lib" / "resmtnet"

ROW = re.compile(r"^\| (\d+) \| (.+?) \| (.+?) \|$", re.MULTILINE)
NAME = re.compile(r"`(\w+)/?`")


def wings_told(page: str) -> dict[str, tuple[int, str]]:
    """Level and purpose of each wing, from the table of a page; loose modules stand in one row."""
    text = (CHECKOUT / page).read_text("utf-8")
    return {
        name: (int(level), told)
        for level, names, told in ROW.findall(text)
        for name in NAME.findall(names)
    }


WINGS = wings_told("CONTRIBUTING.md")
"""THE table of wings: a module imports only from a lower level, or from its own wing."""

LOOSE = 0
"""Level of the modules that lie in no wing; they may import one another."""

TORCH_FREE = ("evaluation", "readings", "guidelines")

ONLY_MONAI_LABEL = {"monai_label", "server"}

HEAVY = ("monailabel", "monai", "highdicom", "ray", "nicegui")

MACHINE_PATH = re.compile(r"(?<![\w.~}/:-])/(?:home|root|Users|work|mnt|srv)/[\w-]+")


def module_name(path: Path) -> str:
    parts = path.relative_to(SOURCE.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


@cache
def modules() -> dict[str, Path]:
    return {module_name(path): path for path in sorted(SOURCE.rglob("*.py"))}


@cache
def imports(name: str) -> frozenset[str]:
    """Return every module that a module names in an import, inside functions too."""
    path, found = modules()[name], set[str]()
    package = name if path.name == "__init__.py" else name.rpartition(".")[0]
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                above = package.split(".")[: len(package.split(".")) - node.level + 1]
                base = ".".join([*above, base] if base else above)
            for alias in node.names:
                submodule = f"{base}.{alias.name}"
                found.add(submodule if submodule in modules() else base)
    return frozenset(found)


def own_imports(name: str) -> frozenset[str]:
    return frozenset(other for other in imports(name) if other in modules() and other != "resmtnet")


def part(name: str) -> str:
    return name.split(".")[1]


def level(name: str) -> int:
    return WINGS[part(name)][0]


def may_import(name: str, other: str) -> bool:
    if part(name) == part(other) or level(other) < level(name):
        return True
    return level(name) == level(other) == LOOSE


def closure(name: str) -> set[str]:
    """Return what a module names in imports, directly or through modules of the package."""
    seen, todo = set[str](), [name]
    while todo:
        for other in imports(todo.pop()) - seen:
            seen.add(other)
            if other in modules() and other != "resmtnet":
                todo.append(other)
    return seen


def run_python(code: str) -> str:
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, capture_output=True, text=True, cwd=SOURCE.parent, check=True)
    return done.stdout.strip()


def package_modules() -> list[str]:
    return [name for name in modules() if name != "resmtnet"]


def test_every_module_lies_in_a_wing_of_the_table_and_every_wing_is_there() -> None:
    assert {part(name) for name in package_modules()} == set(WINGS)


def test_readme_tells_of_each_wing_what_contributing_tells() -> None:
    text = (CHECKOUT / "README.md").read_text("utf-8")
    told = dict(re.findall(r"^\| `lib/resmtnet/(\w+)/` \| (.+?) \|$", text, re.MULTILINE))
    assert told == {name: words for name, (number, words) in WINGS.items() if number != LOOSE}


def test_there_are_at_most_ten_levels() -> None:
    assert len({number for number, _ in WINGS.values()}) <= 10


def test_modules_import_only_from_lower_levels_or_their_own_wing() -> None:
    wrong = [
        f"{name} (level {level(name)}) imports {other} (level {level(other)})"
        for name in package_modules()
        for other in sorted(own_imports(name))
        if not may_import(name, other)
    ]
    assert wrong == []


def test_modules_import_one_another_without_circles() -> None:
    graph = {name: own_imports(name) for name in package_modules()}
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        pytest.fail(" -> ".join(error.args[1]))


def test_only_the_adaptors_of_monai_label_import_it() -> None:
    wrong = [
        name
        for name in package_modules()
        if part(name) not in ONLY_MONAI_LABEL
        and any(other.split(".")[0] == "monailabel" for other in imports(name))
    ]
    assert wrong == []


def test_records_images_and_figures_need_no_torch() -> None:
    wrong = [
        name
        for name in package_modules()
        if part(name) in TORCH_FREE
        and {other.split(".")[0] for other in closure(name)} & {"torch", "monai", "monailabel"}
    ]
    assert wrong == []


def test_importing_the_package_and_the_command_line_imports_nothing_heavy() -> None:
    code = "import sys, resmtnet, resmtnet.cli; resmtnet.CTVolume, resmtnet.Characterizer"
    loaded = run_python(f"{code}; print(*[m for m in {HEAVY!r} if m in sys.modules])")
    assert loaded == ""


def test_importing_the_package_costs_at_most_one_second_more_than_torch() -> None:
    """With both public classes, which are imported when they are first used.

    It takes about 0.06 s of the processor, and PyTorch 1.2 s. Processor time, and the time of
    PyTorch in the same run, so that neither a busy machine nor a slow one fails.
    """
    code = (
        "from time import process_time as now; start_s = now(); import torch; torch_s = now(); "
        "import resmtnet; resmtnet.CTVolume, resmtnet.Characterizer; "
        "print(torch_s - start_s, now() - torch_s)"
    )
    torch_s, more_s = map(float, run_python(code).split())
    assert more_s <= max(1.0, torch_s)


def test_files_of_the_project_hold_no_path_of_a_machine() -> None:
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard"]
    listed = subprocess.run(command, capture_output=True, text=True, cwd=CHECKOUT, check=False)
    if listed.returncode:
        pytest.skip("not a git checkout")
    found = []
    for name in listed.stdout.splitlines():
        path = CHECKOUT / name
        content = path.read_bytes() if path.is_file() else b""
        if b"\0" not in content:
            text = content.decode("utf-8", "replace")
            found += [f"{name}: {match[0]}" for match in MACHINE_PATH.finditer(text)]
    assert found == []
