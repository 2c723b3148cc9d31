"""What the review page keeps of an app between requests: the worklist, and who may see what."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from resmtnet.monai_label.datastore import StudiesDatastore
from resmtnet.monai_label.study_list import StudyList
from resmtnet.page.blinding import FILE as BLINDING
from resmtnet.page.blinding import Blinding
from resmtnet.page.worklist import Sources, Worklist
from resmtnet.readings.answer_glance import AnswerGlances
from resmtnet.readings.inbox import ANSWERS
from resmtnet.server.study_visits import StudyVisits

FIRST_STRATEGY = "resmtnet_informative"
"""Its order is that of the worklist; where it is switched off, any other."""


@dataclass(frozen=True)
class PageState:
    """Of one app."""

    worklist: Worklist
    blinding: Blinding
    answers: AnswerGlances
    visits: StudyVisits


@lru_cache(maxsize=1)
def state_of(app: Any) -> PageState:
    """Return what the page keeps of the app of this process."""
    inbox, site = app.inbox, app.inbox.database.parent
    blinding = Blinding(
        site / BLINDING,
        lambda image: inbox.store.readings(image, every=True),
        is_repeat=inbox.is_repeat,
        was_answered=lambda image, reader: any(
            answer.client == reader for answer in inbox.answers.given(image)
        ),
    )
    strategies = app._strategies
    strategy = strategies.get(FIRST_STRATEGY) or next(iter(strategies.values()), None)
    answers = AnswerGlances(site / ANSWERS)
    studies = StudyList(app.datastore)
    in_folder = isinstance(app.datastore(), StudiesDatastore)
    visits = StudyVisits(studies, inbox.images.volume if in_folder else None)
    sources = Sources(
        studies,
        lambda: inbox.store,
        answers,
        strategy.scored if strategy else lambda image: None,
        (lambda: strategy.order(app.datastore())) if strategy else tuple,
        strategy.holders if strategy else dict,
    )
    return PageState(Worklist(sources, blinding), blinding, answers, visits)
