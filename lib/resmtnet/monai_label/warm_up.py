"""Runs at the start of the server what the first click and the first label would wait for."""

from __future__ import annotations

import logging
import time
from threading import Thread

import numpy as np

from resmtnet.ct import CTVolume, apart
from resmtnet.ct.measure import measure
from resmtnet.inference.protocol import NoduleModel
from resmtnet.readings.formats.class_mask import write_mask
from resmtnet.readings.formats.label_map import read_label_map
from resmtnet.readings.formats.markups_write import write_markups
from resmtnet.types import Point

logger = logging.getLogger(__name__)

_SIDE = 24
"""Voxels of 1 mm along each side of the CT that is made up."""
_EXTENSIONS = (".nrrd", ".nii.gz")
"""Of masks: what Slicer and OHIF ask for."""


def start_warm_up(model: NoduleModel) -> Thread:
    """Warm up in the background; the server answers meanwhile."""
    thread = Thread(target=_run, args=(model,), name="resmtnet-warm-up", daemon=True)
    thread.start()
    return thread


def warm_up(model: NoduleModel) -> None:
    """Answer a click on a made-up CT, write the answer as mask and as markups, read the mask back.

    The code for these is loaded and compiled on first use; that takes some seconds in all.
    """
    model.warm_up()
    ct = CTVolume.from_array(np.full((_SIDE, _SIDE, _SIDE), -800, np.int16), (1.0, 1.0, 1.0))
    x, y, z = (float(mm) for mm in ct.geometry.ijk_to_lps((_SIDE // 2,) * 3))
    centre: Point = (x, y, z)
    findings = model(ct, [centre])
    model.document(ct, findings)
    measure(np.ones((1, 2, 2), np.uint8), ct.geometry)
    for extension in _EXTENSIONS:
        mask = write_mask(findings, ct.geometry, extension)
        try:
            read_label_map(mask)
        finally:
            mask.unlink()
    write_markups(findings, ct.geometry).unlink()


def _run(model: NoduleModel) -> None:
    start = time.perf_counter()
    try:
        warm_up(model)
        apart.start()
    except Exception:
        # The first request meets the same failure, and reports it to a user.
        logger.exception("Warm-up failed")
    else:
        logger.info("Warm-up took %.1f s", time.perf_counter() - start)
