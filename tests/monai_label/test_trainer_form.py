"""The trainer's form: what the viewers can draw, and what comes back from them."""

from __future__ import annotations

from dataclasses import fields
from typing import Any

import pytest

from resmtnet.errors import ConfigError
from resmtnet.monai_label.trainer_form import TrainOptions
from resmtnet.retraining.finetune import DEPTHS, FineTuneConfig
from resmtnet.retraining.margins import Margins
from resmtnet.retraining.retrain import RetrainConfig


def test_the_form_has_only_rows_that_slicer_and_ohif_can_draw() -> None:
    form = TrainOptions.form()
    assert set(form) == {row.name for row in fields(TrainOptions)}
    for value in form.values():
        if isinstance(value, list):
            assert all(isinstance(choice, str) for choice in value)
        else:
            assert isinstance(value, bool) or value > 0  # a 0 is drawn as an empty row
    assert form["depth"] == list(DEPTHS)


def test_the_form_sent_back_unchanged_is_the_default() -> None:
    form = TrainOptions.form()
    assert TrainOptions.parse(form) == TrainOptions()
    slicer = {name: v[0] if isinstance(v, list) else v for name, v in form.items()}
    assert TrainOptions.parse({**slicer, "client_id": "slicer", "model": "resmtnet"}).config() == (
        RetrainConfig()
    )
    ohif = {name: str(value) for name, value in slicer.items()}
    assert TrainOptions.parse(ohif) == TrainOptions()


def test_an_empty_row_keeps_its_default() -> None:
    assert TrainOptions.parse({"epochs": "", "depth": [], "min_readings": None}) == TrainOptions()


CHANGED: dict[str, tuple[Any, RetrainConfig]] = {
    "depth": ("full", RetrainConfig(FineTuneConfig(depth="full"))),
    "epochs": (7, RetrainConfig(FineTuneConfig(epochs=7))),
    "learning_rate": (0.01, RetrainConfig(FineTuneConfig(learning_rate=0.01))),
    "replay_share": (0.25, RetrainConfig(FineTuneConfig(replay_share=0.25))),
    "min_readings": (3, RetrainConfig(least_readings=3)),
    "use_histology": (True, RetrainConfig(evidence=("impression", "histology"))),
    "min_patients": (4, RetrainConfig(margins=Margins(least_patients=4))),
    "min_patients_of_weights": (9, RetrainConfig(margins=Margins(least_patients_of_weights=9))),
    "auc_margin": (
        0.02,
        RetrainConfig(margins=Margins(class_auc=0.02, score_concordance=0.02, class_log_loss=0.06)),
    ),
    "score_margin": (
        0.06,
        RetrainConfig(margins=Margins(score_mae=0.06, score_bias=0.1, score_coverage=0.06)),
    ),
    "size_margin": (
        0.03,
        RetrainConfig(
            margins=Margins(
                size_error=0.03,
                size_bias=0.06,
                size_spread=0.02,
                axis_bias=0.08,
                size_coverage=0.06,
                mask_dice=0.02,
            )
        ),
    ),
}


@pytest.mark.parametrize("name", [row.name for row in fields(TrainOptions)])
def test_every_row_reaches_the_training(name: str) -> None:
    value, config = CHANGED[name]
    assert TrainOptions.parse({name: value}).config() == config
    assert TrainOptions.parse({name: str(value)}).config() == config
    assert config != RetrainConfig()


@pytest.mark.parametrize(
    ("request_", "told"),
    [
        ({"depth": "shallow"}, r"depth is 'shallow'; allowed are heads, full"),
        ({"epochs": 0}, r"epochs is 0; a whole number from 1 to 1000"),
        ({"epochs": "many"}, r"epochs is 'many'; a whole number"),
        ({"epochs": 2.5}, r"epochs is 2\.5; a whole number"),
        ({"epochs": True}, r"epochs is True; a whole number"),
        ({"epochs": float("nan")}, r"epochs is nan; a whole number"),
        ({"epochs": {"a": 1}}, r"epochs is"),
        ({"auc_margin": 0.5}, r"auc_margin is 0\.5; a number from 0\.0001 to 0\.05"),
        ({"use_histology": "perhaps"}, r"use_histology is 'perhaps'; allowed are true and false"),
        ({"max_epochs": 5}, r"max_epochs is no option of training; allowed are depth, epochs, "),
    ],
)
def test_bad_values_are_refused_in_one_line(request_: dict[str, Any], told: str) -> None:
    with pytest.raises(ConfigError, match=told) as caught:
        TrainOptions.parse(request_)
    assert "\n" not in str(caught.value)
