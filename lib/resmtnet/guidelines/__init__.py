"""Guideline categories of one nodule, by published tables: pure functions, sources cited."""

from resmtnet.guidelines.assess import (
    CONTEXTS,
    NO_COMPARISON,
    Guideline,
    RangedCategory,
    assess,
    category_range,
    check_context,
    probable_textures,
)
from resmtnet.guidelines.category import TEXTURES, Category
from resmtnet.guidelines.fleischner_2017 import RISKS, fleischner
from resmtnet.guidelines.lung_rads_v2022 import COMPARISONS, lung_rads, more_serious
from resmtnet.guidelines.risk import (
    brock_probability,
    bts_needs_follow_up,
    volume_doubling_time_days,
)

__all__ = [
    "COMPARISONS",
    "CONTEXTS",
    "NO_COMPARISON",
    "RISKS",
    "TEXTURES",
    "Category",
    "Guideline",
    "RangedCategory",
    "assess",
    "brock_probability",
    "bts_needs_follow_up",
    "category_range",
    "check_context",
    "fleischner",
    "lung_rads",
    "more_serious",
    "probable_textures",
    "volume_doubling_time_days",
]
