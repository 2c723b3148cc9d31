"""A made-up pool of nodules whose labels follow from their embeddings."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np

from resmtnet.active.simulation.heads import fit_heads
from resmtnet.active.simulation.pool import Pool
from resmtnet.active.simulation.rounds import Deal
from resmtnet.active.simulation.strategies import View
from resmtnet.data.nodule import Nodule
from resmtnet.findings import ModelInfo

INFO = ModelInfo("made-up", "1", "0" * 64)


def nodule(n: int, score: float, mm: float, texture: int) -> Nodule:
    ratings = {
        "malignancy": tuple(int(np.clip(round(score + d), 1, 5)) for d in (-0.4, 0, 0.4)),
        "texture": (texture,) * 3,
    }
    return Nodule(
        id=f"N{n}",
        patient_id=f"P{n // 3}",
        split="train",
        fold=n // 3 % 5,
        context="none",
        shape_kji=(1, 1, 1),
        spacing_kji_mm=(1.0, 1.0, 1.0),
        centre_kji=(0.0, 0.0, 0.0),
        slice_thickness_mm=1.0,
        volume_mm3=float(np.pi / 6 * mm**3),
        long_axis_mm=mm,
        ratings=ratings,
    )


def made_pool() -> Pool:
    """150 nodules of 50 patients; one in seven is sub-solid."""
    rng = np.random.default_rng(0)
    hidden = rng.normal(size=(150, 4))
    score = 3 + 1.2 * hidden[:, 0]
    mm = np.exp(2.1 + 0.4 * hidden[:, 1])
    nodules = tuple(
        nodule(n, float(score[n]), float(mm[n]), 1 if n % 7 == 0 else 5) for n in range(150)
    )
    mixing = rng.normal(size=(4, 24))
    hidden[:, 2] += 3 * (np.arange(150) % 7 == 0)
    shown = np.maximum(hidden @ mixing + 0.1 * rng.normal(size=(150, 24)), 0)
    return Pool(nodules, shown.astype(np.float32), INFO)


def view_of(deal: Deal, labelled: np.ndarray, seed: int = 0, **changes: Any) -> View:
    deal = dataclasses.replace(deal, **changes)
    heads = fit_heads(deal.features, deal.truth, labelled)
    chance = np.random.default_rng(seed)
    return View(deal.features, deal.truth, heads, labelled, deal.patients, chance)
