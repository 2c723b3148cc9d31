"""/openapi.json describes what the server takes and answers, as it really does."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import resmtnet
from resmtnet.ct import Geometry
from resmtnet.findings import ModelInfo, findings_document
from resmtnet.readings.record import Reading
from resmtnet.server.app import make_app
from resmtnet.server.openapi import REFUSALS, SCHEMAS

jsonschema = pytest.importorskip("jsonschema")


@pytest.fixture(scope="module")
def api() -> Any:
    return make_app().openapi()


def test_the_title_is_ours_and_the_schemas_are_named(api: Any) -> None:
    assert api["info"]["title"] == "Res-MTNet"
    assert set(SCHEMAS) <= set(api["components"]["schemas"])


def test_every_route_says_how_it_refuses(api: Any) -> None:
    for methods in api["paths"].values():
        for route in methods.values():
            assert set(REFUSALS) <= set(route["responses"])


def test_every_status_that_the_code_refuses_with_is_described() -> None:
    given = re.compile(r"(?:Refus(?:al|ed)|HTTPException)\(\s*(\d{3})\b|\}, (4\d\d|5\d\d)\)")
    folders = [Path(resmtnet.__file__).parent / name for name in ("server", "monai_label")]
    found = {
        next(filter(None, groups))
        for folder in folders
        for file in folder.glob("*.py")
        for groups in given.findall(file.read_text("utf-8"))
    }
    assert {"400", "401", "507"} <= found
    assert found <= set(REFUSALS)


def test_infer_and_readings_name_their_schemas(api: Any) -> None:
    infer = api["paths"]["/infer/{model}"]["post"]["responses"]["200"]["content"]
    assert infer["application/json"]["schema"]["$ref"].endswith("/Findings")
    post = api["paths"]["/resmtnet/readings"]["post"]
    taken = post["requestBody"]["content"]["application/json"]
    assert taken["schema"]["$ref"].endswith("/Reading")


def test_what_is_answered_is_as_described(grid: Geometry, make_finding: Callable[..., Any]) -> None:
    document = findings_document(
        [make_finding(grid, (8, 8, 5))],
        model=ModelInfo("resmtnet", "1", "ab"),
        image_id="ct",
        shape_ijk=grid.size_ijk,
        spacing_ijk_mm=grid.spacing_mm,
    )
    jsonschema.validate(document, SCHEMAS["Findings"])
    reading = Reading("ct", "ann", (0.0, 0.0, 0.0), class_name="benign", malignancy=2)
    jsonschema.validate(reading.to_json(), SCHEMAS["Reading"])
    assert set(reading.to_json()) == set(SCHEMAS["Reading"]["properties"])
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate({**reading.to_json(), "class": "cancer"}, SCHEMAS["Reading"])
