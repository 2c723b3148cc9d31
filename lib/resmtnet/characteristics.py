"""The one table of what is read off a nodule; heads, losses, metrics and reports derive from it.

Scales as in Armato et al., Med Phys 38 (2011); codes as re-encoded for DICOM by Fedorov et al.,
Med Phys 47 (2020).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Kind = Literal["nominal", "ordinal", "size", "binary"]
Branch = Literal["classification", "regression"]


@dataclass(frozen=True)
class Task:
    """One quantity that the network predicts for a nodule."""

    name: str
    """Name in the JSON, in the archive and of the network's head."""
    kind: Kind
    """nominal: a softmax over levels; ordinal: the same, with a mean; size: log value and sigma;
    binary: a softmax over no and yes."""
    branch: Branch
    """Branch of the network that carries the head."""
    levels: tuple[str, ...] = ()
    """Names of the levels; level n of an ordinal LIDC rating is the rating n + 1."""
    unit: str = "1"
    """UCUM unit."""
    lidc_field: str = ""
    """Column of the LIDC annotations, or "" if the quantity is derived."""
    code: tuple[str, str] = ("", "")
    """DICOM (value, scheme) of the concept."""

    @property
    def outputs(self) -> int:
        """Number of values that the head gives: one per level, or log value and log sigma."""
        return 2 if self.kind == "size" else len(self.levels)


def _rating(name: str, levels: str, code: tuple[str, str]) -> Task:
    names = tuple(levels.split("|"))
    return Task(name, "ordinal", "regression", names, lidc_field=name, code=code)


CLASS = Task("class", "nominal", "classification", ("benign", "malignant"))
"""Readers' median malignancy below or above 3; a median of 3 counts half for each."""

TEXTURE_CLASS = Task(
    "texture_class", "nominal", "classification", ("non-solid", "part-solid", "solid")
)
"""Readers' mean texture: at most 2, between, at least 4."""

MALIGNANCY = _rating(
    "malignancy",
    "highly unlikely|moderately unlikely|indeterminate|moderately suspicious|highly suspicious",
    ("900", "99LIDCQIICR"),
)

EQUIVALENT_DIAMETER = Task(
    "equivalent_diameter_mm", "size", "regression", unit="mm", code=("81827009", "SCT")
)
"""Diameter of the sphere of the same volume."""

LONG_AXIS = Task("long_axis_mm", "size", "regression", unit="mm", code=("103339001", "SCT"))
"""Greatest extent in an axial slice."""

TEXTURE = _rating(
    "texture",
    "non-solid|non-solid/part-solid|part-solid|part-solid/solid|solid",
    ("C41144", "NCIt"),
)

TASKS: tuple[Task, ...] = (
    CLASS,
    TEXTURE_CLASS,
    Task(
        "calcification",
        "nominal",
        "classification",
        ("popcorn", "laminated", "solid", "non-central", "central", "absent"),
        lidc_field="calcification",
        code=("C3672", "NCIt"),
    ),
    Task(
        "internal_structure",
        "nominal",
        "classification",
        ("soft tissue", "fluid", "fat", "air"),
        lidc_field="internalStructure",
        code=("200", "99LIDCQIICR"),
    ),
    MALIGNANCY,
    EQUIVALENT_DIAMETER,
    LONG_AXIS,
    TEXTURE,
    _rating(
        "spiculation",
        "none|nearly none|medium|near marked|marked",
        ("700", "99LIDCQIICR"),
    ),
    _rating(
        "lobulation",
        "none|nearly none|medium|near marked|marked",
        ("600", "99LIDCQIICR"),
    ),
    _rating(
        "margin",
        "poorly defined|near poorly defined|medium|near sharp|sharp",
        ("C25563", "NCIt"),
    ),
    _rating(
        "sphericity",
        "linear|ovoid/linear|ovoid|ovoid/round|round",
        ("400", "99LIDCQIICR"),
    ),
    _rating(
        "subtlety",
        "extremely subtle|moderately subtle|fairly subtle|moderately obvious|obvious",
        ("C45992", "NCIt"),
    ),
)

NODULE = Task("nodule", "binary", "classification", ("no nodule", "nodule"))
"""Whether there is a nodule at all. Apart from TASKS: what is read off a nodule presupposes one,
and only networks trained on places without a nodule have this head."""

LIDC_RATINGS: tuple[Task, ...] = tuple(task for task in TASKS if task.lidc_field)
SIZES: tuple[Task, ...] = tuple(task for task in TASKS if task.kind == "size")

LABEL_NAMES: dict[str, int] = {"benign": 1, "malignant": 2, "indeterminate": 3}
"""Mask value of each class name."""
NEUTRAL_NAMES: dict[str, int] = {"nodule": 1}
"""Mask value where a viewer paints the segment that is selected, whatever the class is."""


UNDECIDED_RATING = 3
"""Malignancy that speaks for neither class."""

CLASS_SHARES: dict[str, float] = {"benign": 0.0, "indeterminate": 0.5, "malignant": 1.0}
"""How much each class counts as malignant, for training and figures."""


def class_of_rating(rating: float) -> str:
    """Return the class of a malignancy rating, or of the median of several.

    >>> [class_of_rating(rating) for rating in (2.5, 3, 4)]
    ['benign', 'indeterminate', 'malignant']
    """
    if rating == UNDECIDED_RATING:
        return "indeterminate"
    return "malignant" if rating > UNDECIDED_RATING else "benign"


def branch_tasks(branch: Branch) -> tuple[Task, ...]:
    """Return the tasks of one branch, in the order of TASKS.

    >>> [task.name for task in branch_tasks("classification")][:2]
    ['class', 'texture_class']
    """
    return tuple(task for task in TASKS if task.branch == branch)


def texture_class_of(rating: float) -> str:
    """Return the texture class of a mean LIDC texture rating (1 to 5).

    >>> texture_class_of(2.0), texture_class_of(3.0), texture_class_of(4.0)
    ('non-solid', 'part-solid', 'solid')
    """
    return "non-solid" if rating <= 2 else "solid" if rating >= 4 else "part-solid"
