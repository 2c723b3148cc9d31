"""A study that is offered to be read again: the plugin opens it without what was said before."""

from __future__ import annotations

import json
import urllib.error
import urllib.request
from collections.abc import Iterator
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest

from plugin_process import (
    NODULES_IJK,
    RAS,
    Plugin,
    centre_ras,
    filled,
    grid_of,
    running_plugin,
    running_site,
)
from resmtnet.ct import CTVolume
from resmtnet.readings.formats.class_mask import write_mask
from resmtnet.readings.record import Reading
from resmtnet.readings.store import ReadingStore
from scripted_model import ScriptedModel, made_ct

pytestmark = pytest.mark.server
FRAME, READER = "oblique", "ann"


@pytest.fixture
def url(checkout: Path, tmp_path: Path) -> Iterator[str]:
    """A server where the reader has read a study three weeks ago, and reads all of them again."""
    database = tmp_path / "readings.sqlite"
    x, y, z = (RAS * centre_ras(FRAME, "malignant")).tolist()
    then = datetime.now(timezone.utc) - timedelta(days=21)
    ReadingStore.open(database).add(
        Reading(FRAME, READER, (x, y, z), class_name="benign", made_at=then)
    )
    with running_site(tmp_path / "site", checkout, readings=str(database), repeat_share="1") as url:
        yield url


@pytest.fixture
def plugin(slicer_python: Path, url: str, tmp_path: Path) -> Iterator[Plugin]:
    with running_plugin(slicer_python, url, tmp_path, READER) as started:
        yield started


def keep_answer_of_model(ct: CTVolume, url: str) -> None:
    """Keep a label of the model, as MONAI Label's batch inference does."""
    from monailabel.client.client import MONAILabelClient

    mask = write_mask(ScriptedModel().find(ct), ct.geometry, ".nrrd")
    params = {"params": {"label_names": {"benign": 1, "malignant": 2, "indeterminate": 3}}}
    MONAILabelClient(url).save_label(FRAME, str(mask), tag="original", params=params)
    mask.unlink()


def listed(url: str, path: str) -> Any:
    with urllib.request.urlopen(f"{url}{path}", timeout=60) as reply:
        return json.loads(reply.read())


def model_labels(url: str) -> dict[str, object]:
    """What the plugin asks for when it opens a study: the list of labels, and the model's own."""
    labels = listed(url, "/datastore/?output=all")["objects"][FRAME]["labels"]
    request = urllib.request.Request(f"{url}/datastore/label?label={FRAME}&tag=original")
    try:
        with urllib.request.urlopen(request, timeout=60) as reply:
            status = reply.status
    except urllib.error.HTTPError as error:
        status = error.code
        error.close()
    return {"listed": "original" in labels, "downloads": status}


@pytest.mark.filterwarnings("ignore::ResourceWarning")
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_a_study_to_be_read_again_is_opened_without_earlier_answers_and_readings(
    plugin: Plugin, url: str
) -> None:
    keep_answer_of_model(made_ct(grid_of(FRAME), NODULES_IJK), url)
    mine = f"/resmtnet/readings?image={FRAME}&reader={READER}"
    assert model_labels(url) == {"listed": True, "downloads": 200}
    assert len(listed(url, mine)["readings"]) == 1

    seen = plugin("next", strategy="random")
    assert seen["sample"]["id"] == FRAME
    assert seen["sample"]["active_learning"]["purpose"] == "repeat"
    assert filled(seen) == {}
    assert model_labels(url) == {"listed": False, "downloads": 404}
    assert listed(url, mine)["readings"] == []
    others = listed(url, f"/resmtnet/readings?image={FRAME}")["readings"]
    assert len(others) == 1, "a list of all readers is as it was"
