"""Res-MTNet: class, malignancy score, size and mask of lung nodules in chest CT."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from resmtnet.ct import CTVolume
    from resmtnet.inference.characterizer import Characterizer

__all__ = ["CTVolume", "Characterizer", "__version__"]

__version__ = "0.1.0"

_HOMES = {"CTVolume": "resmtnet.ct", "Characterizer": "resmtnet.inference.characterizer"}
"""Modules of the public classes, imported when a class is first asked for."""


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    globals()[name] = getattr(import_module(_HOMES[name]), name)
    return globals()[name]


def __dir__() -> list[str]:
    return sorted(set(globals()) | set(__all__))
