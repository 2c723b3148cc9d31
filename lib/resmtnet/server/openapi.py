"""What /openapi.json says: our title, the two schemas of our JSON, and what is refused how."""

from __future__ import annotations

from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi

from resmtnet import __version__
from resmtnet.characteristics import LABEL_NAMES
from resmtnet.findings import SCHEMA as FINDINGS
from resmtnet.findings import SIZE_NAMES
from resmtnet.readings.record import ACCEPTANCE, CLASSES, EVIDENCE, RATINGS, REPEAT, SOURCES
from resmtnet.readings.record import SCHEMA as READING
from resmtnet.types import Json

TITLE = "Res-MTNet"

REFUSALS = {
    "400": "A field, file or parameter is wrong; `detail` says which and what is allowed.",
    "401": "A token is needed, or the one that was sent is none of this server.",
    "403": "Not allowed here, or not for the role of the token.",
    "404": "There is no such image, model or route.",
    "405": "Images of a PACS are stored and deleted there.",
    "406": "Sessions are switched off.",
    "409": "The id is taken.",
    "413": "The body is too large.",
    "415": "The body is of another kind than the route takes.",
    "421": "The server was asked under a name that is not its own.",
    "422": "A field is wrong; `detail` lists each with its name.",
    "429": "A training is running already, or too many wrong tokens came from this address.",
    "500": "The request failed; the server's log says why, under the request id.",
    "502": "The PACS refused, or did not answer.",
    "503": "The model, the database or a place to run is not available now.",
    "504": "The PACS did not answer in time.",
    "507": "The disk is full: nothing was stored.",
}


def _numbers(count: int | None = None) -> Json:
    bounds = {} if count is None else {"minItems": count, "maxItems": count}
    return {"type": "array", "items": {"type": "number"}, **bounds}


def _maybe(schema: Json) -> Json:
    return {"anyOf": [schema, {"type": "null"}]}


_NUMBER: Json = {"type": "number"}
_TEXT: Json = {"type": "string"}
_OBJECT: Json = {"type": "object"}
_NODULE: Json = {
    "type": "object",
    "required": ["id", "source", "centre_lps_mm", "centre_ijk", "class", "malignancy", "size"],
    "properties": {
        "id": _TEXT,
        "source": {"enum": ["point", "candidate"]},
        "candidate_score": _maybe(_NUMBER),
        "nodule_probability": _maybe(_NUMBER),
        "centre_lps_mm": _numbers(3),
        "centre_ijk": _numbers(3),
        "centroid_lps_mm": _maybe(_numbers(3)),
        "class": {
            "type": "object",
            "properties": {"name": {"enum": list(LABEL_NAMES)}, "probabilities": _OBJECT},
        },
        "malignancy": {
            "type": "object",
            "properties": {
                "score": {"type": "number", "minimum": 1, "maximum": 5},
                "interval_90": _numbers(2),
                "distribution": _numbers(5),
            },
        },
        "size": {
            "type": "object",
            "properties": {
                **{name: _maybe(_NUMBER) for name in SIZE_NAMES},
                "interval_90": _OBJECT,
            },
        },
        "characteristics": _OBJECT,
        "uncertainty": _OBJECT,
        "guidelines": _OBJECT,
        "prior": _maybe(_OBJECT),
        "mask_value": _maybe({"type": "integer"}),
        "url": _TEXT,
        "warnings": {"type": "array", "items": _TEXT},
    },
}
SCHEMAS: dict[str, Json] = {
    "Findings": {
        "title": FINDINGS,
        "type": "object",
        "required": ["schema", "label_basis", "model", "image", "nodules", "label_names"],
        "properties": {
            "schema": {"const": FINDINGS},
            "label_basis": {"const": "reader_rating"},
            "model": _OBJECT,
            "image": _OBJECT,
            "nodules": {"type": "array", "items": _NODULE},
            "label_names": {"type": "object", "additionalProperties": {"type": "integer"}},
            "warnings": {"type": "array", "items": _TEXT},
            "timing_ms": _OBJECT,
        },
    },
    "Reading": {
        "title": READING,
        "type": "object",
        "required": ["image", "reader"],
        "properties": {
            "schema": {"const": READING},
            "id": _TEXT,
            "image": _TEXT,
            "nodule": _maybe(_TEXT),
            "centre_lps_mm": _maybe(_numbers(3)),
            "reader": _TEXT,
            "made_at": {"type": "string", "format": "date-time"},
            "source": {"enum": list(SOURCES)},
            "class": _maybe({"enum": list(CLASSES)}),
            "malignancy": _maybe({"type": "integer", "minimum": 1, "maximum": 5}),
            "size": {"type": "object", "properties": dict.fromkeys(SIZE_NAMES, _NUMBER)},
            "characteristics": {
                "type": "object",
                "properties": {
                    name: {"type": "integer", "minimum": 1, "maximum": len(task.levels)}
                    for name, task in RATINGS.items()
                },
            },
            "evidence": {"enum": list(EVIDENCE)},
            "acceptance": {"enum": list(ACCEPTANCE)},
            "excluded": {"type": "boolean"},
            "comment": _TEXT,
            "purpose": _maybe({"const": REPEAT}),
            "patient": _maybe(_TEXT),
            "mask": _maybe(_OBJECT),
            "answered": _maybe(_OBJECT),
        },
    },
    "Refusal": {
        "type": "object",
        "required": ["detail"],
        "properties": {
            "detail": {"description": "The reason in one line, or one for each wrong field."},
            "request_id": _TEXT,
        },
    },
}


def _ref(name: str) -> Json:
    return {"schema": {"$ref": f"#/components/schemas/{name}"}}


def describe(app: FastAPI) -> None:
    """Make an app answer /openapi.json with this description of its routes."""

    def openapi() -> Json:
        if not app.openapi_schema:
            app.openapi_schema = _described(
                get_openapi(title=TITLE, version=__version__, routes=app.routes)
            )
        return app.openapi_schema

    app.openapi = openapi  # type: ignore[method-assign]


def _described(api: Json) -> Json:
    api.setdefault("components", {}).setdefault("schemas", {}).update(SCHEMAS)
    for path, methods in api["paths"].items():
        for route in methods.values():
            answers: dict[str, Any] = route.setdefault("responses", {})
            for status, why in REFUSALS.items():
                described = {"description": why, "content": {"application/json": _ref("Refusal")}}
                answers[status] = described
            if path == "/infer/{model}":
                answers["200"] = {
                    "description": "The findings, the mask or markups, or both.",
                    "content": {
                        "application/json": _ref("Findings"),
                        "multipart/form-data": {
                            "schema": {
                                "type": "object",
                                "properties": {
                                    "params": _ref("Findings")["schema"],
                                    "image": {"type": "string", "format": "binary"},
                                },
                            }
                        },
                        "application/octet-stream": {
                            "schema": {"type": "string", "format": "binary"}
                        },
                    },
                }
    readings = api["paths"].get("/resmtnet/readings", {})
    if "post" in readings:
        readings["post"]["requestBody"] = {
            "required": True,
            "content": {"application/json": _ref("Reading")},
        }
        readings["post"]["responses"]["201"] = {
            "description": "Stored.",
            "content": {
                "application/json": {
                    "schema": {
                        "type": "object",
                        "properties": {
                            "reading": _ref("Reading")["schema"],
                            "understood": _TEXT,
                            "warnings": {"type": "array", "items": _TEXT},
                        },
                    }
                }
            },
        }
    return api
