"""The form of the trainer that the viewers show, and the options that they send back."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from typing import Any

from resmtnet.errors import ConfigError
from resmtnet.retraining.finetune import DEPTHS, FineTuneConfig
from resmtnet.retraining.margins import Margins
from resmtnet.retraining.retrain import RetrainConfig
from resmtnet.retraining.samples import BY_IMPRESSION

PLATFORM_KEYS = frozenset(
    {"model", "resmtnet", "client_id", "gpus", "local_rank", "run_sync", "enqueue", "bundle_path"}
)
"""Keys that MONAI Label and its clients add to a request; they do not concern the training."""

_TRAINING, _GATE = FineTuneConfig(), Margins()
_MOVES = {
    "class_auc": ("score_concordance", "class_log_loss"),
    "score_mae": ("score_bias", "score_coverage"),
    "size_error": ("size_bias", "size_spread", "axis_bias", "size_coverage", "mask_dice"),
}
"""Margins that change in proportion with a row of the form."""


def _choice(*allowed: str) -> Any:
    return field(default=allowed[0], metadata={"allowed": allowed})


def _number(default: float, least: float, most: float) -> Any:
    return field(default=default, metadata={"range": (least, most)})


@dataclass(frozen=True)
class TrainOptions:
    """The options of a request to train; each field is a row of the form.

    No default is 0, because Slicer and OHIF show a 0 as an empty row.
    """

    depth: str = _choice(*DEPTHS)
    """What trains; see FineTuneConfig.depth."""
    epochs: int = _number(_TRAINING.epochs, 1, 1000)
    learning_rate: float = _number(_TRAINING.learning_rate, 1e-6, 0.1)
    replay_share: float = _number(_TRAINING.replay_share, 0.05, 0.95)
    """Weight of the training nodules that came with the model; the rest is that of the site's."""
    min_readings: int = _number(RetrainConfig.least_readings, 1, 100_000)
    """With fewer readings no training is tried."""
    use_histology: bool = False
    """Where there is histology, it replaces the readers' class."""
    min_patients: int = _number(_GATE.least_patients, 1, 100_000)
    """Patients with readings, from which the habits of the readers are learnt."""
    min_patients_of_weights: int = _number(_GATE.least_patients_of_weights, 1, 100_000)
    """From which new weights are trained as well."""
    auc_margin: float = _number(_GATE.class_auc, 1e-4, 0.05)
    """How much AUC a version may lose on the reference set. Each of the three margins changes
    others in proportion."""
    score_margin: float = _number(_GATE.score_mae, 1e-4, 0.2)
    """How much the mean absolute error of the malignancy score may grow, levels; on a part of the
    reference set or on the site's readings twice as much."""
    size_margin: float = _number(_GATE.size_error, 1e-4, 0.1)
    """How much the mean absolute error of a log diameter or long axis may grow."""

    @classmethod
    def form(cls) -> dict[str, Any]:
        """Return the form: a list is a combo box, a bool a check box, a number a field."""
        return {
            row.name: list(row.metadata["allowed"]) if "allowed" in row.metadata else row.default
            for row in fields(cls)
        }

    @classmethod
    def parse(cls, request: Mapping[str, Any]) -> TrainOptions:
        """Read a request; rows that are missing or empty keep their default.

        Raises:
            ConfigError: naming the first key that is unknown or has an impossible value.

        >>> TrainOptions.parse({"model": "resmtnet", "epochs": "60"}).epochs
        60
        """
        rows = {row.name: row for row in fields(cls)}
        unknown = sorted(set(request) - set(rows) - PLATFORM_KEYS)
        if unknown:
            raise ConfigError(
                f"{unknown[0]} is no option of training; allowed are {', '.join(rows)}."
            )
        values = {}
        for name, row in rows.items():
            given = request.get(name)
            if isinstance(given, list):  # a client may send the whole list of a combo box
                given = given[0] if given else None
            if given is not None and given != "":
                values[name] = _parsed(name, given, type(row.default), row.metadata)
        return cls(**values)

    def config(self) -> RetrainConfig:
        """Return the configuration of the training."""
        return RetrainConfig(
            FineTuneConfig(
                depth=self.depth,  # type: ignore[arg-type]
                epochs=self.epochs,
                learning_rate=self.learning_rate,
                replay_share=self.replay_share,
            ),
            self._margins(),
            self.min_readings,
            (*BY_IMPRESSION, "histology") if self.use_histology else BY_IMPRESSION,
        )

    def _margins(self) -> Margins:
        given = {
            "class_auc": self.auc_margin,
            "score_mae": self.score_margin,
            "size_error": self.size_margin,
        }
        moved = {
            name: getattr(_GATE, name) * (value / getattr(_GATE, row))
            for row, value in given.items()
            for name in _MOVES[row]
        }
        changes: dict[str, Any] = {**given, **moved}
        return replace(
            _GATE,
            least_patients=self.min_patients,
            least_patients_of_weights=self.min_patients_of_weights,
            **changes,
        )


def _parsed(name: str, given: object, kind: type, metadata: Mapping[str, Any]) -> Any:
    if kind is bool:
        return _switch(name, given)
    if "allowed" in metadata:
        if given not in metadata["allowed"]:
            raise ConfigError(f"{name} is {given!r}; allowed are {', '.join(metadata['allowed'])}.")
        return given
    return _in_range(name, given, kind, *metadata["range"])


def _switch(name: str, given: object) -> bool:
    values = {"true": True, "1": True, "false": False, "0": False}
    if str(given).lower() not in values:
        raise ConfigError(f"{name} is {given!r}; allowed are true and false.")
    return values[str(given).lower()]


def _in_range(name: str, given: object, kind: type, least: float, most: float) -> Any:
    try:
        number = float(str(given).strip())
    except ValueError:
        number = math.nan
    if isinstance(given, bool) or not least <= number <= most or number != kind(number):
        what = "a whole number" if kind is int else "a number"
        raise ConfigError(f"{name} is {given!r}; {what} from {least:g} to {most:g} is needed.")
    return kind(number)
