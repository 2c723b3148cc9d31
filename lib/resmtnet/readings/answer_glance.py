"""What the stored answers of many images say in short, read without their masks.

A worklist asks for every study again and again: an answer's file never changes, so each is read
once.
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from resmtnet.readings.answer_log import folder_name, read_document
from resmtnet.types import Json


@dataclass(frozen=True)
class Glance:
    """What the latest version that answered for an image has said of it."""

    model_sha256: str
    nodules: int
    """Of the answer with most nodules; 0 if none was found."""
    highest_score: float | None
    """Highest malignancy score, 1 to 5; None without a nodule."""


@dataclass(frozen=True)
class _Answer:
    model_sha256: str
    scores: tuple[float, ...]


class AnswerGlances:
    """Looks into the folder of an AnswerLog; from any thread."""

    def __init__(self, folder: Path) -> None:
        """Take a folder, which may be missing.

        Args:
            folder: of the AnswerLog.
        """
        self._folder = folder
        self._read: dict[Path, _Answer | None] = {}
        self._glances: dict[str, tuple[tuple[str, ...], Glance | None]] = {}
        """By image, with the names of the answers it is of."""

    def of(self, images: Iterable[str]) -> dict[str, Glance]:
        """Return what is known of each image; one without an answer is left out."""
        try:
            there = set(os.listdir(self._folder))
        except OSError:
            return {}
        found = {image: self._glance(image) for image in images if folder_name(image) in there}
        return {image: glance for image, glance in found.items() if glance is not None}

    def answers(self, image: str) -> list[tuple[str, list[Json]]]:
        """Return the SHA-256 of the model and the nodules of each answer, the latest first."""
        paths = sorted((self._folder / folder_name(image)).glob("*.npz"), reverse=True)
        documents = [document for path in paths if (document := read_document(path))]
        return [(str(one["model"][1]), list(one["nodules"])) for one in documents]

    def _glance(self, image: str) -> Glance | None:
        folder = self._folder / folder_name(image)
        try:
            names = tuple(sorted(os.listdir(folder)))
        except OSError:
            return None
        known = self._glances.get(image)
        if known is None or known[0] != names:
            answers = [self._answer(folder / name) for name in names if name.endswith(".npz")]
            known = names, _joined([answer for answer in answers if answer is not None])
            self._glances[image] = known
        return known[1]

    def _answer(self, path: Path) -> _Answer | None:
        if path not in self._read:
            document = read_document(path)
            try:
                self._read[path] = document and _Answer(  # type: ignore[assignment]
                    str(document["model"][1]),
                    tuple(float(one["malignancy"]["score"]) for one in document["nodules"]),
                )
            except (LookupError, TypeError, ValueError):
                self._read[path] = None
        return self._read[path]


def _joined(answers: list[_Answer]) -> Glance | None:
    """Join the answers, the latest last, of the version that answered last."""
    if not answers:
        return None
    sha256 = answers[-1].model_sha256
    same = [answer for answer in answers if answer.model_sha256 == sha256]
    scores = [score for answer in same for score in answer.scores if math.isfinite(score)]
    most = max(len(answer.scores) for answer in same)
    return Glance(sha256, most, max(scores, default=None))
