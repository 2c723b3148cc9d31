"""Configurations refuse what they cannot mean, in one line."""

import json

import pytest

from resmtnet.config import (
    NetworkConfig,
    PatchConfig,
    TrainingConfig,
    from_dict,
    load,
    to_dict,
)
from resmtnet.errors import ConfigError


def test_configuration_survives_its_json(tmp_path):
    config = TrainingConfig(epochs=3, network=NetworkConfig(widths=(4, 8, 16)))
    (tmp_path / "config.json").write_text(json.dumps(to_dict(config)))
    assert load(TrainingConfig, tmp_path / "config.json") == config


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"epoch": 3}, "unknown key 'epoch'. Allowed: augment"),
        ({"epochs": "3"}, "epochs: got '3'"),
        ({"epochs": True}, "epochs: got True"),
        ({"epochs": 0}, "epochs is 0"),
        ({"batch_size": 0}, "batch_size is 0"),
        ({"mask_share": 2}, "mask_share is 2"),
        ({"network": {"widths": [8, 8]}}, "widths are"),
        ({"network": {"dropout": 1}}, "dropout 1"),
        ({"network": {"branches": ["detection"]}}, "classification"),
        ({"network": {"spatial_dims": 4}}, "spatial_dims is 4"),
        ({"network": {"spatial_dims": 3}}, "spatial_dims 3 with 5"),
        ({"patch": {"size_px": 50}}, "size_px is 50"),
        ({"patch": {"offsets_mm": []}}, "offsets_mm is empty"),
        ({"patch": {"pixel_mm": 0}}, "pixel_mm 0"),
        ({"patch": {"hu_low": 900}}, "hu_low is 900"),
    ],
)
def test_impossible_value_is_refused_by_name(values, words):
    with pytest.raises(ConfigError, match=r"^[^\n]+$") as told:
        from_dict(TrainingConfig, values)
    assert words in str(told.value)


@pytest.mark.parametrize("text", ["{", "[]"])
def test_file_that_is_no_configuration_is_named(tmp_path, text):
    path = tmp_path / "config.json"
    path.write_text(text)
    with pytest.raises(ConfigError, match=r"config\.json"):
        load(PatchConfig, path)
