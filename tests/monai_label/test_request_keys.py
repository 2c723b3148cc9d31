"""Parameters that clients may send."""

from __future__ import annotations

from typing import Any

import pytest

from resmtnet.errors import InputError
from resmtnet.monai_label.request_keys import (
    BATCH,
    JSON_ROUTES,
    TRAIN,
    check_infer_keys,
    check_keys,
)
from resmtnet.monai_label.trainer_form import TrainOptions


@pytest.mark.parametrize("route", JSON_ROUTES)
def test_no_route_takes_a_folder_of_code(route: str) -> None:
    with pytest.raises(InputError, match=r"'bundle_path'.*allowed are"):
        check_keys({"bundle_path": "/tmp"}, JSON_ROUTES[route], route)


def test_a_model_takes_none_either() -> None:
    with pytest.raises(InputError, match="bundle_path"):
        check_infer_keys({"model": "resmtnet", "image": "a", "bundle_path": "/tmp"})


def test_every_row_of_the_form_is_a_parameter_of_training() -> None:
    check_keys(TrainOptions.form(), TRAIN, "training")


SLICER: dict[str, Any] = {
    **{key: [] for key in ("foreground", "background")},
    **{"label": "benign", "roi": [0, 1, 0, 1, 0, 1], "slice": 3, "reset_state": True},
    **{"context": "none", "client_id": "user-xyz"},
    **{"result_extension": ".nrrd", "result_dtype": "uint8"},
}
"""Of 3D Slicer's plugin: points, options, and what it adds to each request."""
OHIF: dict[str, Any] = {
    **{key: [] for key in ("foreground", "background")},
    **{"label_prompt": [1], "restore_label_idx": False},
    **{"result_extension": ".nrrd", "result_dtype": "uint8", "result_compress": False},
}
"""Of OHIF's panel."""


@pytest.mark.parametrize("sent", [SLICER, OHIF, {"benign": [[1, 2, 3]], "malignant": []}])
def test_what_the_viewers_send_is_allowed(sent: dict[str, Any]) -> None:
    check_infer_keys({"model": "resmtnet_click", "image": "a", **sent})


def test_the_defaults_of_monai_labels_batch_inference_are_allowed() -> None:
    defaults = ("device", "multi_gpu", "gpus", "logging", "save_label", "label_tag")
    check_keys([*defaults, "max_workers", "max_batch_size"], BATCH, "batch inference")
