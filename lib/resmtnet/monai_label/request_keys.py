"""The parameters that a client may send with each route; any other one is refused.

MONAI Label merges whatever a client sends into the request that it hands to its tasks and
processes. Among the keys that it reads there is a folder from which a training imports code.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import fields
from typing import Any

from resmtnet.characteristics import LABEL_NAMES, NEUTRAL_NAMES
from resmtnet.errors import InputError
from resmtnet.monai_label.trainer_form import TrainOptions

_OF_CLIENTS = {"client_id", "model"}

INFER = frozenset(
    {
        *_OF_CLIENTS,
        *LABEL_NAMES,
        *NEUTRAL_NAMES,
        *("image", "image_id", "foreground", "background", "context", "max_candidates"),
        *("brock", "candidates", "prior", "save_label", "label_tag", "device", "logging"),
        # Sent by 3D Slicer and OHIF to every model; this app does not use them.
        *("label", "labels", "label_info", "label_prompt", "selected_label_name", "roi", "slice"),
        *("reset_state", "restore_label_idx"),
        *("result_extension", "result_dtype", "result_compress"),
    }
)
"""Of `params` of POST /infer/{model}."""

BATCH = frozenset(
    {
        *_OF_CLIENTS,
        *("images", "labels", "label_tag", "save_label", "max_workers", "max_batch_size"),
        *("device", "multi_gpu", "gpus", "logging", "context", "max_candidates"),
        *("result_extension", "result_dtype", "result_compress"),
    }
)
"""Of the body of POST /batch/infer/{model}."""

TRAIN = frozenset({*_OF_CLIENTS, *(row.name for row in fields(TrainOptions)), "gpus"})
"""Of the body of POST /train/{model}; POST /train/ takes them under the name of a trainer too."""

SCORING = frozenset({*_OF_CLIENTS, "method", "gpus"})
"""Of the body of POST /scoring/{method}."""

STRATEGY = frozenset({*_OF_CLIENTS, "strategy", "labels", "label_tag"})
"""Of the body of POST /activelearning/{strategy}."""

JSON_ROUTES: Mapping[str, frozenset[str]] = {
    "/train": TRAIN,
    "/batch/infer": BATCH,
    "/scoring": SCORING,
    "/activelearning": STRATEGY,
}
"""By the beginning of the path."""

_ADDED_BY_MONAI_LABEL = frozenset({"_id", "_image_id", "session", "description"}) | BATCH
"""What MONAI Label itself adds to a request before it asks a model."""


def check_keys(given: Iterable[str], allowed: frozenset[str], what: str) -> None:
    """Refuse parameters that are not allowed.

    Args:
        given: names of the parameters.
        allowed: names that are.
        what: was asked for, for the message.

    Raises:
        InputError: names the first one, and those that are allowed.

    >>> check_keys(["gpus"], TRAIN, "training")
    """
    unknown = sorted(str(name)[:80] for name in given if name not in allowed)
    if unknown:
        raise InputError(
            f"{unknown[0]!r} is no parameter of {what}; allowed are {', '.join(sorted(allowed))}."
        )


def check_infer_keys(request: Mapping[str, Any]) -> None:
    """Refuse a request to a model with a parameter that no client needs.

    Args:
        request: what MONAI Label made of `params`.

    Raises:
        InputError: names the first one, and those that are allowed.
    """
    check_keys(set(request) - _ADDED_BY_MONAI_LABEL, INFER, "a model")
