"""The options of a training on the page, folded away: the form of the trainer, in plain words."""

from __future__ import annotations

from collections.abc import Mapping

from nicegui import ui

WORDS: Mapping[str, tuple[str, str]] = {
    "depth": (
        "What is trained",
        "heads: the last layers, in seconds; full: the whole network, which needs an image archive",
    ),
    "epochs": ("Epochs", "how often each nodule is seen"),
    "learning_rate": ("Learning rate", "size of a step"),
    "replay_share": ("Share of the training nodules", "of the shipped model, against forgetting"),
    "min_readings": ("Fewest readings", "with fewer no training is tried"),
    "use_histology": ("Histology instead of impressions, where there is some", ""),
    "min_patients": ("Fewest patients for habits", "bias and calibration of this site"),
    "min_patients_of_weights": ("Fewest patients for weights", "of the network"),
    "auc_margin": ("AUC may fall by", "on the reference set"),
    "score_margin": ("Error of the score may grow by", "levels of malignancy"),
    "size_margin": ("Error of a log size may grow by", ""),
}
"""Name and explanation of each row of the trainer's form; a row without words keeps its name."""


class TrainingOptions:
    """What a visitor has changed of the defaults; it outlives the fields, which are drawn anew."""

    def __init__(self) -> None:
        self._changed: dict[str, object] = {}
        self._open = False

    @property
    def changed(self) -> dict[str, object]:
        """Options that are not the default, by name: what a training is started with."""
        return dict(self._changed)

    def draw(self, form: Mapping[str, object]) -> None:
        """Draw the fields.

        Args:
            form: of the trainer: a list is a choice whose first is the default.
        """
        with ui.expansion(
            "Options", value=self._open, on_value_change=lambda e: self._opened(bool(e.value))
        ).classes("learn-table learn-options"):
            ui.label("The defaults suit most sites. What is changed here holds for this visit.")
            fields: dict[str, ui.element] = {}
            with ui.element("div").classes("option-rows"):
                for name, default in form.items():
                    fields[name] = self._field(name, default)
            ui.button("Back to the defaults", on_click=lambda: self._reset(form, fields)).props(
                "flat no-caps dense"
            )

    def _opened(self, is_open: bool) -> None:
        self._open = is_open

    def _field(self, name: str, given: object) -> ui.element:
        default = _default(given)
        title, told = WORDS.get(name, (name, ""))
        value = self._changed.get(name, default)
        field: ui.select | ui.checkbox | ui.number
        if isinstance(given, list):
            field = ui.select(given, label=title, value=value)
        elif isinstance(default, bool):
            field = ui.checkbox(title, value=bool(value)).props("dense")
        else:
            field = ui.number(title, value=float(str(value)), format="%g")
        if not isinstance(field, ui.checkbox):
            field.props("outlined dense options-dense").props(f'hint="{told}"')
        field.on_value_change(lambda e: self._set(name, e.value, default))
        return field.classes("option")

    def _set(self, name: str, value: object, default: object) -> None:
        if value is None or value == default:
            self._changed.pop(name, None)
        else:
            self._changed[name] = value

    def _reset(self, form: Mapping[str, object], fields: Mapping[str, ui.element]) -> None:
        self._changed.clear()
        for name, field in fields.items():
            field.value = _default(form[name])  # type: ignore[attr-defined]


def _default(given: object) -> object:
    return given[0] if isinstance(given, list) and given else given
