"""What the views of the page use: the readings, the images, the model, the training, the visitor.

The server fills this in (`resmtnet.server.page_services`), so that nothing here needs MONAI Label.
Functions that wait for a disk, a PACS or the model are to be called with `nicegui.run.io_bound`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from resmtnet.active.study_scores import ScoredStudy
from resmtnet.ct import CTVolume
from resmtnet.findings import Finding
from resmtnet.inference.protocol import NoduleModel
from resmtnet.page.blinding import Blinding
from resmtnet.page.earlier import EarlierStudies
from resmtnet.page.worklist import Worklist
from resmtnet.readings.answer_glance import AnswerGlances
from resmtnet.readings.inbox import Inbox
from resmtnet.retraining.registry import ModelRegistry
from resmtnet.types import Json, Point

RANKS = {"reader": 0, "trainer": 1, "admin": 2, "local": 2}
"""Roles of the server's tokens; "local": a browser of this machine that needs none."""


@dataclass(frozen=True)
class Visitor:
    """Who looks at the page, as the server knows it when the page is opened."""

    role: str
    """"reader", "trainer", "admin", or "local"."""
    reader: str
    """Name under which readings are kept; "" until it is given."""
    blinded: bool = False
    """Whether the reader wants the model's answer hidden until they have said theirs."""
    dark: bool = False

    def may(self, role: str) -> bool:
        """Whether the visitor may do what a role may do.

        >>> Visitor("reader", "Ann").may("trainer"), Visitor("local", "Ann").may("admin")
        (False, True)
        """
        return RANKS.get(self.role, -1) >= RANKS[role]


@dataclass(frozen=True)
class ToCompare:
    """Nodules of an image that are to be compared with an earlier CT."""

    prior: Json
    """The field `prior` of a request."""
    points: tuple[Point, ...]
    """Places that a reader or a viewer has asked about, LPS mm."""
    candidates: tuple[Point, ...]
    """Places that the search has proposed; they stay candidates."""
    context: str | None = None
    """Of the guideline category; None: that of the server."""


class Served(Protocol):
    """The version of the model that answers now."""

    @property
    def model(self) -> NoduleModel:
        """Answers points and whole CTs."""

    @property
    def name(self) -> str:
        """Of the version."""

    @property
    def warnings(self) -> tuple[str, ...]:
        """What readers should know of it."""


class Training(Protocol):
    """The trainer of the site; each call may be refused with the reason in one line."""

    def stats(self) -> Json:
        """Return the status of the last or running training, with what there is to train."""

    def form(self) -> Json:
        """Return the options with their defaults."""

    def running(self) -> bool:
        """Whether a training runs, in any process."""

    def start(self, options: Mapping[str, object]) -> None:
        """Start a training; raises ResMTNetError with the reason if it cannot start."""

    def stop(self) -> None:
        """Stop it."""


@dataclass(frozen=True)
class Services:
    """Handles that every view gets; see the module."""

    visitor: Visitor
    inbox: Inbox
    """The readings: `inbox.store` to read them, `inbox.add` to keep one (source "review")."""
    list_images: Callable[[], Sequence[str]]
    """Ids of all studies."""
    open_ct: Callable[[str], CTVolume]
    """Opens the CT of an image; the last ones stay open."""
    now: Callable[[], Served]
    """The version that answers now."""
    versions: ModelRegistry
    click: Callable[[str, Sequence[Point], str], list[Finding]]
    """Asks the model about points (LPS mm) of an image, for a reader; the answer is remembered."""
    search: Callable[[str, str], list[Finding]]
    """Asks the model for candidates of a whole CT, for a reader; the answer is remembered."""
    earlier: Callable[[str], EarlierStudies]
    """Returns the studies with which an image may be compared."""
    compare: Callable[[str, ToCompare, str], None]
    """Asks the model about nodules of an image again, with an earlier CT, for a reader; the answer
    is remembered, with `prior` in each finding."""
    score_of: Callable[[str], ScoredStudy | None]
    """What the served version says of a study in short; None where it is not scored yet."""
    strategies: Mapping[str, str]
    """Names of the strategies for "next study", and what each does."""
    next_study: Callable[[str, str], Json | None]
    """Strategy and reader -> {"id", "active_learning"}; None if all studies are read."""
    training: Training | None
    """None where training is switched off."""
    blinding: Blinding
    """Decides what the visitor may see of a study; nothing else does."""
    worklist: Worklist
    answers: AnswerGlances
    """What the stored answers say in short."""
    open_for: Callable[[str, str], bool]
    """Notes that a reader reads an image now; False where another one is reading it."""
    close_for: Callable[[str, str], None]
    """Notes that a reader has closed an image."""
