"""What was answered is remembered, also by the next process."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from resmtnet.ct import Geometry
from resmtnet.readings import answer_log as module
from resmtnet.readings.answer_log import MOST_ANSWERS, AnswerLog, GivenAnswer
from resmtnet.readings.formats.markups_json import BOX, LINE

AT = [(6, 6, 4), (16, 12, 8)]


@pytest.fixture
def given(grid: Geometry, make_finding: Any) -> Any:
    def make(client: str | None = "ann", version: str = "2") -> GivenAnswer:
        findings = tuple(make_finding(grid, centre, n) for n, centre in enumerate(AT))
        return GivenAnswer(client, version, "ab", grid, findings)

    return make


def test_answers_survive_a_restart_with_their_masks(tmp_path: Path, given: Any) -> None:
    AnswerLog(tmp_path).remember("ct", given())
    before, after = AnswerLog(tmp_path).known("ct", "ann"), given()
    assert [known.id for known in before] == ["N1", "N2"]
    for known, finding in zip(before, after.findings, strict=True):
        assert known.finding == finding.to_json()
        assert known.model_version == "2"
        assert known.mask is not None
        assert np.array_equal(known.mask, finding.mask)
        assert known.grid is not None
        start = after.geometry.lps_to_ijk(known.grid.origin_lps_mm)
        assert start == pytest.approx(finding.start_ijk, abs=1e-6)


def test_who_was_given_an_answer_has_seen_it_of_others_it_is_not_known(
    tmp_path: Path, given: Any
) -> None:
    log = AnswerLog(tmp_path)
    log.remember("ct", given("ann"))
    assert [known.seen for known in log.known("ct", "ann")] == [True, True]
    assert [known.seen for known in log.known("ct", "bob")] == [None, None]
    log.remember("ct2", given(None))
    assert [known.seen for known in log.known("ct2", None)] == [None, None]


def test_only_the_last_answer_of_the_reader_is_expected_back(tmp_path: Path, given: Any) -> None:
    log = AnswerLog(tmp_path)
    for client in ("ann", "ann", "bob"):
        log.remember("ct", given(client))
    assert [k.expected for k in log.known("ct", "ann")] == [False] * 2 + [True] * 2 + [False] * 2
    assert not any(known.expected for known in log.known("ct", "eve"))


def test_few_answers_of_an_image_are_kept_the_latest_first(tmp_path: Path, given: Any) -> None:
    log = AnswerLog(tmp_path)
    for n in range(MOST_ANSWERS + 3):
        log.remember("ct", given(version=str(n)))
    versions = [known.model_version for known in AnswerLog(tmp_path).known("ct", "ann")][::2]
    assert versions == [str(n) for n in range(MOST_ANSWERS + 2, 2, -1)]


def test_few_images_stay_in_memory_and_on_the_disk(
    tmp_path: Path, given: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "MOST_IMAGES", 1)
    monkeypatch.setattr(module, "MOST_FILES", 2)
    monkeypatch.setattr(module, "_PRUNED_EVERY", 1)
    log = AnswerLog(tmp_path)
    for n in range(4):
        log.remember(f"ct{n}", given())
        os.utime(log._file(f"ct{n}"), ns=(n, n))
    log.remember("ct3", given())
    assert len(list(tmp_path.glob("*.npz"))) == 2
    assert len(log.known("ct2", "ann")) == 2
    assert log.known("ct0", "ann") == []


def test_a_damaged_file_and_a_folder_that_cannot_be_written_are_done_without(
    tmp_path: Path, given: Any
) -> None:
    log = AnswerLog(tmp_path)
    log.remember("ct", given())
    log._file("ct").write_bytes(b"PK nothing")
    assert AnswerLog(tmp_path).known("ct", "ann") == []
    (tmp_path / "file").touch()
    blocked = AnswerLog(tmp_path / "file" / "answers")
    blocked.remember("ct", given())
    assert len(blocked.known("ct", "ann")) == 2


def test_answers_of_which_any_byte_is_damaged_are_done_without_until_the_next_one(
    tmp_path: Path, given: Any
) -> None:
    log = AnswerLog(tmp_path)
    log.remember("ct", given())
    file = log._file("ct")
    content = file.read_bytes()
    for n in range(0, len(content), 7):
        file.write_bytes(content[:n] + bytes([content[n] ^ 0xFF]) + content[n + 1 :])
        AnswerLog(tmp_path).known("ct", "ann")
    AnswerLog(tmp_path).remember("ct", given())
    assert [known.id for known in AnswerLog(tmp_path).known("ct", "ann")][:2] == ["N1", "N2"]


def test_masks_are_known_as_they_were_painted(
    tmp_path: Path, grid: Geometry, make_finding: Any
) -> None:
    """Where two classes claim a voxel, the one more probably malignant has it."""
    malignant, benign = (make_finding(grid, (10 + n, 10, 6), n) for n in range(2))
    log = AnswerLog(tmp_path)
    log.remember("ct", GivenAnswer("ann", "2", "ab", grid, (malignant, benign)))
    one, other = log.known("ct", "ann")
    assert np.array_equal(one.mask, malignant.mask)  # type: ignore[arg-type]
    assert other.mask is not None
    assert 0 < other.mask.sum() < benign.mask.sum()


def test_lines_and_boxes_are_those_that_were_sent(tmp_path: Path, given: Any) -> None:
    log = AnswerLog(tmp_path)
    log.remember("ct", given())
    nodes = log.drawn("ct")
    assert [node.kind for node in nodes] == [LINE, BOX] * 2
    assert nodes[0].name == "N1 long axis"
    assert log.drawn("other") == []
