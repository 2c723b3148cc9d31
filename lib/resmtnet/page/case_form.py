"""The form in which a reader says what a nodule is; nothing is kept until they save it."""

from __future__ import annotations

from collections.abc import Callable

from nicegui import ui

from resmtnet.characteristics import MALIGNANCY, TEXTURE, class_of_rating
from resmtnet.page.case import CaseNodule
from resmtnet.page.case_actions import Said
from resmtnet.readings.record import RATINGS

CLASSES = {"benign": "Benign", "indeterminate": "Indeterminate", "malignant": "Malignant"}


class CorrectionForm:
    """Class, malignancy, characteristics, size and comment of the chosen nodule."""

    def __init__(self, on_change: Callable[[], object]) -> None:
        """Build the form.

        Args:
            on_change: called when the reader has changed anything.
        """
        self.said = Said()
        self._told, self._setting = on_change, False
        self._class_follows = True
        """Whether the class is that of the rating, until the reader has chosen one."""
        with ui.element("div").classes("form-head"):
            ui.label("Your reading").classes("section-title")
            self._level = ui.label("").classes("quiet")
        with ui.element("div").classes("form-row").props('role="group" aria-label="Class"'):
            self._class = ui.toggle(CLASSES, on_change=self._on_class, clearable=True)
            self._class.props("no-caps unelevated spread dense").classes("choice")
        with (
            ui.element("div")
            .classes("form-row")
            .props('role="group" aria-label="Malignancy 1 to 5"')
        ):
            self._malignancy = ui.toggle(
                {n: str(n) for n in range(1, 6)}, on_change=self._on_malignancy, clearable=True
            )
            self._malignancy.props("no-caps unelevated spread dense").classes("choice")
        self._ratings: dict[str, ui.select] = {}
        more = ui.expansion("Texture and other characteristics").props("dense").classes("more")
        with more, ui.element("div").classes("ratings"):
            for name in sorted(RATINGS, key=lambda name: name != TEXTURE.name):
                self._rating(name)
        self._size = ui.label("").classes("form-size")
        self._comment = ui.input("Comment", on_change=self._on_comment)
        self._comment.props("dense outlined maxlength=2000 debounce=300").classes("comment")

    def start(self, nodule: CaseNodule | None) -> None:
        """Begin anew for a nodule, with what the reader has said of it before."""
        said = nodule.said if nodule else None
        self.said, self._setting = Said(), True
        self._class_follows = True
        self._class.value = said.class_name if said and said.class_name in CLASSES else None
        self._malignancy.value = said.malignancy if said else None
        for name, field in self._ratings.items():
            field.value = said.characteristics.get(name) if said else None
        self._comment.value = ""
        self._setting = False
        self._show()

    def rate(self, malignancy: int) -> None:
        """Set the malignancy, as its key does."""
        self._malignancy.value = malignancy

    def classify(self, class_name: str) -> None:
        """Set the class, as its key does."""
        self._class.value = class_name

    def drew(self, sizes: dict[str, float]) -> None:
        """Take the sizes of axes that were dragged, or of a mask that was changed."""
        self.said.sizes = sizes
        self._show()
        self._told()

    def _rating(self, name: str) -> None:
        levels = {n: f"{n} {level}" for n, level in enumerate(RATINGS[name].levels, start=1)}
        title = name.replace("_", " ").capitalize()
        field = ui.select(
            levels, label=title, clearable=True, on_change=lambda e: self._on_rating(name, e.value)
        )
        field.props("dense outlined options-dense").classes("rating")
        self._ratings[name] = field

    def _on_class(self) -> None:
        if self._setting:
            return
        self.said.class_name, self._class_follows = self._class.value, False
        self._show()
        self._told()

    def _on_malignancy(self) -> None:
        if self._setting:
            return
        rating = self._malignancy.value
        self.said.malignancy = rating
        if rating is not None and self._class_follows:
            self.said.class_name, self._setting = class_of_rating(rating), True
            self._class.value = self.said.class_name
            self._setting = False
        self._show()
        self._told()

    def _on_rating(self, name: str, value: int | None) -> None:
        if self._setting:
            return
        if value is None:
            self.said.characteristics.pop(name, None)
        else:
            self.said.characteristics[name] = value
        self._told()

    def _on_comment(self) -> None:
        if self._setting:
            return
        self.said.comment = str(self._comment.value or "").strip()
        self._told()

    def _show(self) -> None:
        rating = self._malignancy.value
        self._level.text = MALIGNANCY.levels[rating - 1] if rating else "class, malignancy 1 to 5"
        size = self.said.sizes
        drawn = "Mask changed" if self.said.mask is not None else ""
        axes = (
            f"Axes {size['long_axis_mm']:.1f} × {size['short_axis_mm']:.1f} mm"
            if "short_axis_mm" in size
            else ""
        )
        self._size.text = " · ".join(part for part in (drawn, axes) if part)
