"""The codes of our DICOM objects: published ones where there are, else of our own scheme.

LIDC re-encoding: Fedorov et al., Med Phys 47 (2020), https://github.com/QIICR/lidc2dicom.
SCT = SNOMED CT, DCM = PS3.16 annex D. Our scheme 99RESMTNET is documented in docs/dicom.md.
"""

from __future__ import annotations

from collections.abc import Mapping

from pydicom.sr.coding import Code

from resmtnet.characteristics import LIDC_RATINGS, MALIGNANCY, Task
from resmtnet.guidelines.fleischner_2017 import ORDER as FLEISCHNER
from resmtnet.guidelines.lung_rads_v2022 import ORDER as LUNG_RADS

OURS = "99RESMTNET"
LIDC = "99LIDCQIICR"
MANUFACTURER = "Res-MTNet"
MODEL_NAME = "Res-MTNet for MONAI Label"
"""By manufacturer and model name we know our own objects again."""
RESEARCH = "RESEARCH - not for diagnostic use"
CORNERSTONE = "Cornerstone3DTools@^0.1.0:Bidirectional"
"""Tracking Identifier by which OHIF knows that a group is a line pair which a reader may edit."""

NODULE = Code("27925004", "SCT", "Nodule")
LESION_CATEGORY = Code("49755003", "SCT", "Morphologically Altered Structure")
LUNG = Code("39607008", "SCT", "Lung")
CHEST_CT = Code("24628-9", "LN", "CT Chest")
LONG_AXIS = Code("103339001", "SCT", "Long Axis")
SHORT_AXIS = Code("103340004", "SCT", "Short Axis")
DIAMETER = Code("81827009", "SCT", "Diameter")
VOLUME = Code("118565006", "SCT", "Volume")
MEAN = Code("373098007", "SCT", "Mean")
SOURCE = Code("260753009", "SCT", "Source")
COMMENT = Code("121106", "DCM", "Comment")
MILLIMETRE = Code("mm", "UCUM", "mm")
CUBIC_MILLIMETRE = Code("mm3", "UCUM", "mm3")
UNITY = Code("1", "UCUM", "no units")
ARTIFICIAL_INTELLIGENCE = Code("123109", "DCM", "Artificial Intelligence")
REJECTED = Code("113001", "DCM", "Rejected for Quality Reasons")
MALIGNANCY_CONCEPT = Code(*MALIGNANCY.code, "Malignancy")

PROBABILITY = Code("probability", OURS, "Probability of the class malignant, as readers rate")
NODULE_CLASS = Code("class", OURS, "Class, as readers rate")
CATEGORY = Code("category", OURS, "Guideline category")
CLASSES: Mapping[str, Code] = {
    name: Code(name, OURS, meaning)
    for name, meaning in (
        ("benign", "Benign, as readers rate"),
        ("malignant", "Malignant, as readers rate"),
        ("indeterminate", "Indeterminate, as readers rate"),
        ("not_a_nodule", "Not a nodule"),
    )
}

SIZES: Mapping[str, Code] = {
    "long_axis_mm": LONG_AXIS,
    "short_axis_mm": SHORT_AXIS,
    "mean_diameter_mm": DIAMETER,
    "equivalent_diameter_mm": Code("sphere_diameter", OURS, "Equivalent sphere diameter"),
    "volume_mm3": VOLUME,
    "solid_component_mm": Code("solid_component", OURS, "Mean diameter of the solid part"),
}
"""Concept of each size by its name in the JSON; that of the mean diameter is derived by MEAN."""

_PUBLISHED: Mapping[str, tuple[str, ...]] = {
    "subtlety": tuple(f"{LIDC} {value}" for value in range(101, 106)),
    "internal_structure": ("NCIt C12471", "NCIt C25278", "NCIt C12472", "NCIt C73434"),
    "calcification": (
        *("RADLEX RID35453", f"{LIDC} 302", "RADLEX RID5741", f"{LIDC} 304"),
        *("RADLEX RID5827", "RADLEX RID28473"),
    ),
    "sphericity": ("RADLEX RID5811", "", "RADLEX RID5800", "", "RADLEX RID5799"),
    "margin": ("RADLEX RID5709", "", "", "", "RADLEX RID5707"),
    "lobulation": (f"{LIDC} 601", "", "", "", f"{LIDC} 605"),
    "spiculation": (f"{LIDC} 701", "", "", "", f"{LIDC} 705"),
    "texture": ("RADLEX RID50153", "", "RADLEX RID50152", "", "RADLEX RID50151"),
    "malignancy": tuple(f"{LIDC} {value}" for value in range(901, 906)),
}
"""Scheme and value of each level; "" is the published "N out of 5"."""


def concept(task: Task) -> Code:
    """Return the concept of an LIDC rating.

    >>> concept(MALIGNANCY).value
    '900'
    """
    value, scheme = task.code
    return Code(value, scheme, task.name.replace("_", " ").capitalize())


def level(task: Task, number: int) -> Code:
    """Return the code of a level of an LIDC rating.

    Args:
        task: the rating.
        number: of the level, from 1.

    >>> level(MALIGNANCY, 4)
    Code(value='904', scheme_designator='99LIDCQIICR', meaning='moderately suspicious', \
scheme_version=None)
    """
    scheme, _, value = (_PUBLISHED[task.name][number - 1] or f"{LIDC} 00{number}").partition(" ")
    return Code(value, scheme, task.levels[number - 1])


LEVELS: Mapping[tuple[str, str], tuple[Task, Mapping[tuple[str, str], int]]] = {
    task.code: (
        task,
        {
            (code.value, code.scheme_designator): n
            for n, code in ((n, level(task, n)) for n in range(1, len(task.levels) + 1))
        },
    )
    for task in LIDC_RATINGS
}
"""By (value, scheme) of the concept: the rating, and its levels by (value, scheme)."""


def category_code(system: str, name: str) -> Code:
    """Return the code of a guideline category.

    Args:
        system: lung_rads or fleischner.
        name: of the category, as "guidelines" of resmtnet.findings/1 has it.

    >>> category_code("lung_rads", "4A").value, category_code("lung_rads", "4A").meaning
    ('lung_rads_4A', 'Lung-RADS v2022: 4A')
    """
    if system == "lung_rads":
        return Code(f"lung_rads_{name}", OURS, f"Lung-RADS v2022: {name}")
    return Code(f"fleischner_{FLEISCHNER.index(name) + 1}", OURS, f"Fleischner 2017: {name}")


CATEGORIES: Mapping[str, tuple[str, str]] = {
    category_code(system, name).value: (system, name)
    for system, order in (("lung_rads", LUNG_RADS), ("fleischner", FLEISCHNER))
    for name in order
}
"""Guideline and category by the value of their code."""
