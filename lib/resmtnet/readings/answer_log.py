"""The last answers of each image, so that a reading can say which answer it corrects.

    <folder>/<image>/<time>-<random>.npz    one answer

Each answer is a file of its own, written once and never changed: the server and a batch inference,
which is another process, add answers side by side, and whoever asks sees those of both.
"""

from __future__ import annotations

import hashlib
import io
import json
import logging
import secrets
import shutil
import time
import zipfile
import zlib
from collections import OrderedDict
from contextlib import suppress
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
from resmtnet.readings.formats.class_mask import visible_masks
from resmtnet.readings.formats.draft import AnsweredNodule
from resmtnet.readings.formats.markups_json import Markup
from resmtnet.readings.formats.markups_write import line_and_box
from resmtnet.types import Json

logger = logging.getLogger(__name__)

_DAMAGED = (OSError, ValueError, KeyError, TypeError, EOFError, RuntimeError)
"""What numpy and zipfile raise for a damaged .npz, beside their own."""

MOST_ANSWERS = 8
"""Answers that are kept of an image."""
MOST_IMAGES = 64
"""Images whose answers stay in memory."""
MOST_STORED_IMAGES = 2000
"""Images whose answers stay on the disk."""

_FORMAT = 2
_PRUNED_EVERY = 100


@dataclass(frozen=True, eq=False)
class GivenAnswer:
    """One answer of a model: the findings that a client was given for an image."""

    client: str | None
    """Whoever asked, as MONAI Label's clients name themselves."""
    model_version: str
    model_sha256: str
    geometry: Geometry
    """Of the CT."""
    findings: tuple[Finding, ...]
    content: str | None = None
    """Key of what the image held, see ct/content_key.py; None where it is not known."""
    as_masks: bool = True
    """Whether it was drawn as masks, and not as markups."""
    at_s: float = 0.0
    """When it was given, seconds since 1970."""


class AnswerLog:
    """The last answers by image, in a folder and in memory; from any thread and process.

    The folder lets a restart remember the answers. It is a convenience: it is written without
    waiting for the disk, and a file that cannot be read or written is passed over.
    """

    def __init__(self, folder: Path) -> None:
        """Keep answers.

        Args:
            folder: made with the first answer.
        """
        self._folder = folder
        self._lock = Lock()
        self._memory: OrderedDict[str, dict[str, GivenAnswer]] = OrderedDict()
        """Answers by image and file name; the image that was used last comes last."""
        self._not_stored: set[str] = set()
        """Names of the answers in memory that could not be written."""
        self._written = 0

    def remember(self, image: str, answer: GivenAnswer) -> None:
        """Keep an answer.

        Args:
            image: id of the image.
            answer: the latest.
        """
        light = replace(
            answer,
            findings=tuple(replace(f, embedding=None) for f in answer.findings),
            at_s=time.time(),
        )
        name = f"{time.time_ns():020}-{secrets.token_hex(4)}"
        with self._lock:
            try:
                self._write(image, name, light)
            except OSError as error:
                logger.warning("The answers of %s are not kept on the disk: %s", image, error)
                self._not_stored.add(name)
            self._memory.setdefault(image, {})[name] = light
            self._latest(image)

    def forget(self, image: str) -> None:
        """Delete the answers of an image."""
        with self._lock:
            self._memory.pop(image, None)
            shutil.rmtree(self._folder_of(image), ignore_errors=True)

    def known(
        self, image: str, client: str | None, content: str | None = None
    ) -> list[AnsweredNodule]:
        """The nodules that were answered for an image, the latest first.

        Args:
            image: id of the image.
            client: whoever reads now.
            content: key of what the image holds now: answers for what it held before it was
                replaced are left out. None: not known, all answers are given.
        """
        given = self._given(image, content)
        mine = [n for n, answer in enumerate(given) if answer.client == client]
        known = []
        for n, answer in enumerate(given):
            seen = True if client is not None and answer.client == client else None
            for finding, mask in zip(answer.findings, visible_masks(answer.findings), strict=True):
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

    def drawn(self, image: str, content: str | None = None) -> list[Markup]:
        """The lines and boxes that were drawn for an image; see `known`."""
        return [
            markup
            for answer in self._given(image, content)
            for finding in answer.findings
            for markup in line_and_box(finding, answer.geometry)
        ]

    def given(self, image: str, content: str | None = None) -> list[GivenAnswer]:
        """The whole answers of an image, the latest first; see `known`."""
        return self._given(image, content)

    def _given(self, image: str, content: str | None) -> list[GivenAnswer]:
        """The answers for what an image holds now, the latest first."""
        with self._lock:
            answers = self._latest(image)
        return [one for one in answers if content is None or one.content in (None, content)]

    def _latest(self, image: str) -> list[GivenAnswer]:
        """The latest answers of an image, of all processes; the lock is held."""
        remembered = self._memory.pop(image, {})
        names = {path.stem for path in self._folder_of(image).glob("*.npz")}
        names |= self._not_stored & remembered.keys()
        latest = {}
        for name in sorted(names, reverse=True)[:MOST_ANSWERS]:
            answer = remembered.get(name) or self._read(image, name)
            if answer is not None:
                latest[name] = answer
        self._memory[image] = latest
        while len(self._memory) > MOST_IMAGES:
            self._memory.popitem(last=False)
        self._not_stored &= {name for answers in self._memory.values() for name in answers}
        return list(latest.values())

    def _folder_of(self, image: str) -> Path:
        return self._folder / folder_name(image)

    def _write(self, image: str, name: str, answer: GivenAnswer) -> None:
        folder = self._folder_of(image)
        buffer = io.BytesIO()
        np.savez_compressed(buffer, **_packed(image, answer))
        path, site = folder / f"{name}.npz", self._folder.parent
        with atomic_file(path, durable=False, within=site, private=True) as draft:
            draft.write_bytes(buffer.getbuffer())
        for path in sorted(folder.glob("*.npz"))[:-MOST_ANSWERS]:
            path.unlink(missing_ok=True)
        if self._written % _PRUNED_EVERY == 0:
            self._prune()
        self._written += 1

    def _prune(self) -> None:
        """Remove the images answered longest ago, and what older versions have written."""
        images = []
        for place in self._folder.iterdir():
            with suppress(FileNotFoundError):  # another process removes them too
                if place.is_dir():
                    images.append((place.stat().st_mtime_ns, place))
                else:
                    place.unlink()
        for _, image in sorted(images)[:-MOST_STORED_IMAGES]:
            shutil.rmtree(image, ignore_errors=True)

    def _read(self, image: str, name: str) -> GivenAnswer | None:
        path = self._folder_of(image) / f"{name}.npz"
        try:
            with path.open("rb") as file, np.load(file, allow_pickle=False) as arrays:
                return _unpacked(arrays)
        except FileNotFoundError:  # another process has removed it meanwhile
            return None
        except (*_DAMAGED, zipfile.BadZipFile, zlib.error) as error:
            logger.warning("The answers of %s in %s cannot be read: %s", image, path, error)
            return None


def folder_name(image: str) -> str:
    """Return the name of the folder of an image's answers."""
    return hashlib.sha256(image.encode()).hexdigest()[:32]


def read_document(path: Path) -> Json | None:
    """Return what an answer says without its masks; None for one that cannot be read."""
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as arrays:
            document: Json = json.loads(bytes(arrays["document"]))
    except (*_DAMAGED, zipfile.BadZipFile, zlib.error):
        return None
    return document if document.get("format") == _FORMAT else None


def _packed(image: str, answer: GivenAnswer) -> dict[str, NDArray[Any]]:
    """An answer as arrays for a file."""
    grid = answer.geometry
    document = {
        "format": _FORMAT,
        "image": image,
        "content": answer.content,
        "client": answer.client,
        "as_masks": answer.as_masks,
        "at_s": answer.at_s,
        "model": [answer.model_version, answer.model_sha256],
        "geometry": [grid.size_ijk, grid.spacing_mm, grid.origin_lps_mm],
        "direction": grid.direction.tolist(),
        "nodules": [finding.to_json() for finding in answer.findings],
        "starts": [finding.start_ijk for finding in answer.findings],
    }
    arrays: dict[str, NDArray[Any]] = {
        f"mask_{n}": (finding.mask > 0).astype(np.uint8)
        for n, finding in enumerate(answer.findings)
        if finding.mask is not None
    }
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


def _unpacked(arrays: Any) -> GivenAnswer | None:
    """The answer of arrays from a file; None for one of another version."""
    document = json.loads(bytes(arrays["document"]))
    if document["format"] != _FORMAT:
        return None
    size, spacing, origin = (tuple(values) for values in document["geometry"])
    grid = Geometry(size, spacing, origin, np.array(document["direction"]))
    findings = []
    for n, nodule in enumerate(document["nodules"]):
        finding, start = Finding.from_json(nodule), document["starts"][n]
        if start is not None:
            finding = _with_mask(finding, arrays[f"mask_{n}"], tuple(start), grid)
        findings.append(finding)
    version, sha256 = document["model"]
    return GivenAnswer(
        document["client"],
        version,
        sha256,
        grid,
        tuple(findings),
        document["content"],
        document.get("as_masks", True),
        document.get("at_s", 0.0),
    )
