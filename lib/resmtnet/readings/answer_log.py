"""The last answers of each image, so that a reading can say which answer it corrects."""

from __future__ import annotations

import hashlib
import io
import json
import logging
import zipfile
import zlib
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from threading import Lock
from typing import Any

import numpy as np
from numpy.typing import NDArray

from resmtnet.ct import Geometry
from resmtnet.ct.measure import measure
from resmtnet.files import atomic_file
from resmtnet.findings import Finding
from resmtnet.readings.formats.draft import AnsweredNodule
from resmtnet.readings.formats.markups_json import BOX, LINE, Node, parse_markups
from resmtnet.readings.formats.markups_write import markups
from resmtnet.types import Json

logger = logging.getLogger(__name__)

_DAMAGED = (OSError, ValueError, KeyError, TypeError, EOFError, RuntimeError)
"""What numpy and zipfile raise for a damaged .npz, beside their own."""

MOST_ANSWERS = 8
"""Answers that are kept of an image."""
MOST_IMAGES = 64
"""Images whose answers stay in memory."""
MOST_FILES = 2000
"""Images whose answers stay on the disk."""

_FORMAT = 1
_PRUNED_EVERY = 100


@dataclass(frozen=True, eq=False)
class GivenAnswer:
    """What a client was told of an image."""

    client: str | None
    """Whoever asked, as MONAI Label's clients name themselves."""
    model_version: str
    model_sha256: str
    geometry: Geometry
    """Of the CT."""
    findings: tuple[Finding, ...]


class AnswerLog:
    """The last answers by image, in memory and in a folder; from any thread.

    The folder is a convenience that lets a restart forget nothing: it is written without waiting
    for the disk, and what cannot be read or written is done without.
    """

    def __init__(self, folder: Path) -> None:
        """Keep answers.

        Args:
            folder: made with the first answer.
        """
        self._folder = folder
        self._lock = Lock()
        self._images: OrderedDict[str, tuple[GivenAnswer, ...]] = OrderedDict()
        self._written = 0

    def remember(self, image: str, answer: GivenAnswer) -> None:
        """Keep an answer.

        Args:
            image: id of the image.
            answer: the latest.
        """
        with self._lock:
            light = replace(
                answer, findings=tuple(replace(f, embedding=None) for f in answer.findings)
            )
            given = (light, *self._of(image))[:MOST_ANSWERS]
            self._images[image] = given
            self._images.move_to_end(image)
            while len(self._images) > MOST_IMAGES:
                self._images.popitem(last=False)
            try:
                self._write(image, given)
            except OSError as error:
                logger.warning("The answers of %s are not kept on the disk: %s", image, error)

    def known(self, image: str, client: str | None) -> list[AnsweredNodule]:
        """The nodules that were answered for an image, the latest first.

        Args:
            image: id of the image.
            client: whoever reads now.
        """
        with self._lock:
            given = self._of(image)
        mine = [n for n, answer in enumerate(given) if answer.client == client]
        known = []
        for n, answer in enumerate(given):
            seen = True if client is not None and answer.client == client else None
            for finding, mask in zip(answer.findings, _visible(answer.findings), strict=True):
                known.append(
                    AnsweredNodule(
                        finding.to_json(),
                        answer.model_version,
                        answer.model_sha256,
                        mask,
                        None
                        if mask is None or finding.start_ijk is None
                        else answer.geometry.sub(finding.start_ijk, mask.shape[::-1]),
                        seen,
                        answer=n,
                        expected=n == min(mine, default=-1),
                    )
                )
        return known

    def drawn(self, image: str) -> list[Node]:
        """The lines and boxes that were drawn for an image."""
        with self._lock:
            given = self._of(image)
        nodes: list[Node] = []
        for answer in given:
            nodes += parse_markups(markups(answer.findings, answer.geometry))[0]
        return [node for node in nodes if node.kind in (LINE, BOX)]

    def _of(self, image: str) -> tuple[GivenAnswer, ...]:
        if image not in self._images:
            self._images[image] = self._read(image)
        return self._images[image]

    def _file(self, image: str) -> Path:
        return self._folder / f"{hashlib.sha256(image.encode()).hexdigest()[:32]}.npz"

    def _write(self, image: str, given: Sequence[GivenAnswer]) -> None:
        buffer = io.BytesIO()
        np.savez_compressed(buffer, **_packed(image, given))
        with atomic_file(self._file(image)) as draft:
            draft.write_bytes(buffer.getbuffer())
        if self._written % _PRUNED_EVERY == 0:
            files = sorted(self._folder.glob("*.npz"), key=lambda path: path.stat().st_mtime_ns)
            for path in files[:-MOST_FILES]:
                path.unlink(missing_ok=True)
        self._written += 1

    def _read(self, image: str) -> tuple[GivenAnswer, ...]:
        path = self._file(image)
        if not path.is_file():
            return ()
        try:
            with path.open("rb") as file, np.load(file, allow_pickle=False) as arrays:
                return _unpacked(arrays)
        except (*_DAMAGED, zipfile.BadZipFile, zlib.error) as error:
            logger.warning("The answers of %s in %s cannot be read: %s", image, path, error)
            return ()


def _visible(findings: Sequence[Finding]) -> list[NDArray[np.uint8] | None]:
    """The masks as they are painted: of two classes the one more probably malignant stays."""
    masks = []
    for n, finding in enumerate(findings):
        mask = finding.mask
        # Painted in this order, stable where two are alike: see write_mask.
        above = [
            other
            for m, other in enumerate(findings)
            if other.class_name != finding.class_name
            and (other.probability_malignant, m) > (finding.probability_malignant, n)
        ]
        for other in above:
            mask = _without(mask, finding.start_ijk, other.mask, other.start_ijk)
        masks.append(mask)
    return masks


def _without(
    mask: NDArray[np.uint8] | None,
    start_ijk: tuple[int, int, int] | None,
    other: NDArray[np.uint8] | None,
    other_start_ijk: tuple[int, int, int] | None,
) -> NDArray[np.uint8] | None:
    """A mask without the voxels of another on the same grid; both [k, j, i]."""
    if mask is None or start_ijk is None or other is None or other_start_ijk is None:
        return mask
    start, other_start = np.array(start_ijk[::-1]), np.array(other_start_ijk[::-1])
    low = np.maximum(start, other_start)
    high = np.minimum(start + mask.shape, other_start + other.shape)
    if (high <= low).any():
        return mask
    mine = tuple(slice(*ends) for ends in zip(low - start, high - start, strict=True))
    theirs = tuple(slice(*ends) for ends in zip(low - other_start, high - other_start, strict=True))
    left = mask.copy()
    left[mine][other[theirs] > 0] = 0
    return left


def _packed(image: str, given: Sequence[GivenAnswer]) -> dict[str, NDArray[Any]]:
    arrays: dict[str, NDArray[Any]] = {}
    answers: list[Json] = []
    for a, answer in enumerate(given):
        grid = answer.geometry
        starts: list[Any] = []
        for n, finding in enumerate(answer.findings):
            starts.append(finding.start_ijk)
            if finding.mask is not None:
                arrays[f"mask_{a}_{n}"] = (finding.mask > 0).astype(np.uint8)
        answers.append(
            {
                "client": answer.client,
                "model": [answer.model_version, answer.model_sha256],
                "geometry": [grid.size_ijk, grid.spacing_mm, grid.origin_lps_mm],
                "direction": grid.direction.tolist(),
                "nodules": [finding.to_json() for finding in answer.findings],
                "starts": starts,
            }
        )
    document = {"format": _FORMAT, "image": image, "answers": answers}
    arrays["document"] = np.frombuffer(json.dumps(document).encode(), np.uint8)
    return arrays


def _with_mask(
    finding: Finding, mask: NDArray[np.uint8], start_ijk: tuple[int, int, int], grid: Geometry
) -> Finding:
    """A finding with its mask [k, j, i], and the ends of the axes that are measured in it."""
    measured = measure(mask, grid.sub(start_ijk, mask.shape[::-1]))
    return replace(
        finding,
        mask=mask,
        start_ijk=start_ijk,
        long_axis_lps_mm=measured.long_axis_ends_lps_mm if measured else None,
        short_axis_lps_mm=measured.short_axis_ends_lps_mm if measured else None,
    )


def _unpacked(arrays: Any) -> tuple[GivenAnswer, ...]:
    document = json.loads(bytes(arrays["document"]))
    if document["format"] != _FORMAT:
        return ()
    given = []
    for a, entry in enumerate(document["answers"]):
        size, spacing, origin = (tuple(values) for values in entry["geometry"])
        grid = Geometry(size, spacing, origin, np.array(entry["direction"]))
        findings = []
        for n, nodule in enumerate(entry["nodules"]):
            finding, mask = Finding.from_json(nodule), arrays.get(f"mask_{a}_{n}")
            if mask is not None:
                finding = _with_mask(finding, mask, tuple(entry["starts"][n]), grid)
            findings.append(finding)
        version, sha256 = entry["model"]
        given.append(GivenAnswer(entry["client"], version, sha256, grid, tuple(findings)))
    return tuple(given)
