"""The documentation site: it builds without a warning, needs no network, and tells the truth."""

from __future__ import annotations

import ast
import json
import os
import re
import subprocess
import sys
from functools import cache
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from typer.main import get_command

from pages import CHECKOUT, DOCS, HISTORY, PAGES
from resmtnet import cli
from resmtnet.server import routes, training

LIB = CHECKOUT / "lib"
ROOTS = (CHECKOUT, LIB / "resmtnet", CHECKOUT / "apps" / "resmtnet")
"""Where the path of a file on a page may begin."""

LOADS = {"script": "src", "img": "src", "link": "href", "iframe": "src", "source": "src"}
"""Tags that fetch something as soon as a page is opened."""


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The built site; any warning is an error."""
    out = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "-d", str(out)]
    environment = {**os.environ, "NO_MKDOCS_2_WARNING": "1"}
    done = subprocess.run(
        command, cwd=CHECKOUT, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "WARNING" not in done.stderr
    return out


def test_every_page_is_built(site: Path) -> None:
    pages = {path.relative_to(DOCS).with_suffix(".html") for path in DOCS.rglob("*.md")}
    assert {page for page in pages if not (site / page).is_file()} == set()


def test_no_page_loads_anything_from_elsewhere(site: Path) -> None:
    found = []
    for page in site.rglob("*.html"):
        parser = _Loads()
        parser.feed(page.read_text("utf-8"))
        found += [f"{page.name}: {url}" for url in parser.urls if re.match(r"(https?:)?//", url)]
    assert found == []
    assert (site / "javascripts" / "iframe-worker.js").is_file()


def test_no_style_sheet_loads_anything_from_elsewhere(site: Path) -> None:
    styles = [path.read_text("utf-8") for path in site.rglob("*.css")]
    assert styles
    assert [m for text in styles for m in re.findall(r"url\([\"']?(?:https?:)?//", text)] == []


def test_the_command_line_page_lists_every_command_and_option(site: Path) -> None:
    page = (site / "cli.html").read_text("utf-8")
    missing = [
        f"{name} {option}"
        for name, options in _commands("resmtnet", get_command(cli.app))
        for option in options
        if option not in _section(page, name.replace(" ", "-"))
    ]
    assert missing == []


def test_the_python_page_documents_the_public_classes(site: Path) -> None:
    page = (site / "python.html").read_text("utf-8")
    names = ("ct.volume.CTVolume.open", "ct.volume.CTVolume.from_array", "findings.Finding.to_json")
    names += tuple(f"inference.characterizer.Characterizer.{n}" for n in ("load", "find"))
    assert [name for name in names if f'id="resmtnet.{name}"' not in page] == []


def test_the_server_page_lists_every_route_of_ours() -> None:
    table = PAGES["docs/server.md"].split("## HTTP routes")[1]
    told = set(re.findall(r"^\| `(\w+ [^`?]+)", table, flags=re.MULTILINE))
    ours = {
        f"{method} {route.path}"
        for router in (routes.router, training.router)
        for route in router.routes
        for method in route.methods  # type: ignore[attr-defined]
    }
    assert ours - told == set()


def test_the_evaluation_page_explains_every_field_of_metrics_json() -> None:
    document = json.loads((DOCS / "experiments" / "reference" / "metrics.json").read_text("utf-8"))
    page = PAGES["docs/evaluation.md"]
    fields = {*document, *(name for row in document["figures"].values() for name in row)}
    assert [name for name in sorted(fields) if f"`{name}`" not in page] == []
    assert document["schema"] in page


def test_every_file_that_a_page_names_exists() -> None:
    missing = [
        f"{page}: {name}"
        for page, text in PAGES.items()
        if page != HISTORY
        for name in re.findall(r"(?<![\w/.-])((?:[\w-]+/)*[\w-]+\.py)\b", text)
        if not any((root / name).is_file() for root in ROOTS)
    ]
    assert missing == []


def test_every_name_of_the_package_that_a_page_names_exists() -> None:
    missing = [
        f"{page}: {name}"
        for page, text in PAGES.items()
        if page != HISTORY
        for name in re.findall(r"(?<![\w/.-])(resmtnet(?:\.\w+)+)(?![\w/])", text)
        if not _exists(name)
    ]
    assert missing == []


def test_every_folder_of_the_package_that_a_page_names_exists() -> None:
    missing = [
        f"{page}: {name}"
        for page, text in PAGES.items()
        if page != HISTORY
        for name in re.findall(r"`(lib/resmtnet/[\w/]+/|tests/[\w/]+/)`", text)
        if not (CHECKOUT / name).is_dir()
    ]
    assert missing == []


class _Loads(HTMLParser):
    """Collects what the tags of a page load."""

    def __init__(self) -> None:
        super().__init__()
        self.urls: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        if tag == "link" and (given.get("rel") or "") in ("canonical", "next", "prev"):
            return
        if tag in LOADS and given.get(LOADS[tag]):
            self.urls.append(str(given[LOADS[tag]]))


def _commands(name: str, command: Any) -> list[tuple[str, list[str]]]:
    if not hasattr(command, "commands"):
        options = [option for p in command.params for option in p.opts if option.startswith("--")]
        return [(name, options)]
    return [
        found
        for child, below in command.commands.items()
        for found in _commands(f"{name} {child}", below)
    ]


def _section(page: str, identifier: str) -> str:
    """Return the HTML from a heading to the next one; nothing where there is no such heading."""
    return page.partition(f'<h3 id="{identifier}">')[2].partition("<h3 ")[0]


def _exists(dotted: str) -> bool:
    """Whether a dotted name is a module of the package, or something that one defines."""
    parts = dotted.split(".")
    for count in range(len(parts), 0, -1):
        path = LIB.joinpath(*parts[:count])
        file = path / "__init__.py" if path.is_dir() else path.with_suffix(".py")
        if file.is_file():
            inside = parts[count:]
            return not inside or ".".join(inside) in _defined(file)
    return False


@cache
def _defined(file: Path) -> frozenset[str]:
    """Return the names that a module defines or imports, and those within its classes."""
    return frozenset(_names(ast.parse(file.read_text("utf-8")).body))


def _names(body: list[ast.stmt], prefix: str = "") -> list[str]:
    found = []
    for node in body:
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
            found.append(prefix + node.name)
        if isinstance(node, ast.ClassDef):
            found += _names(node.body, f"{prefix}{node.name}.")
        if isinstance(node, (ast.Assign, ast.AnnAssign)):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            found += [prefix + target.id for target in targets if isinstance(target, ast.Name)]
        if isinstance(node, (ast.Import, ast.ImportFrom)):
            found += [prefix + (alias.asname or alias.name) for alias in node.names]
    return found
