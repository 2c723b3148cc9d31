"""What was answered is remembered, also by the next process."""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
from dataclasses import replace
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


def test_few_images_stay_on_the_disk(
    tmp_path: Path, given: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "MOST_STORED_IMAGES", 2)
    monkeypatch.setattr(module, "_PRUNED_EVERY", 1)
    (tmp_path / "of_an_older_version.npz").touch()
    log = AnswerLog(tmp_path)
    for n in range(4):
        log.remember(f"ct{n}", given())
        os.utime(log._folder_of(f"ct{n}"), ns=(n, n))
    log.remember("ct3", given())
    assert len(list(tmp_path.iterdir())) == 2
    assert len(log.known("ct2", "ann")) == 2
    assert log.known("ct0", "ann") == []


def test_few_images_stay_in_memory_when_they_are_written_and_when_they_are_read(
    tmp_path: Path, given: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "MOST_IMAGES", 2)
    log, again = AnswerLog(tmp_path), AnswerLog(tmp_path)
    for n in range(4):
        log.remember(f"ct{n}", given())
        assert len(log._memory) <= 2
    for n in range(4):
        assert len(again.known(f"ct{n}", "ann")) == 2
        assert len(again._memory) <= 2
    assert again.known("never answered", "ann") == []
    assert len(again._memory) <= 2


def test_answers_of_two_logs_of_a_folder_do_not_replace_one_another(
    tmp_path: Path, given: Any
) -> None:
    server, batch = AnswerLog(tmp_path), AnswerLog(tmp_path)
    server.remember("ct", given("ann", "1"))
    batch.remember("ct", given(None, "2"))
    server.remember("ct", given("ann", "3"))
    for log in (server, batch, AnswerLog(tmp_path)):
        versions = [known.model_version for known in log.known("ct", "ann")][::2]
        assert versions == ["3", "2", "1"]


_PROCESS = """
import pickle, sys
from pathlib import Path
from resmtnet.readings.answer_log import AnswerLog
folder, file, n = sys.argv[1:]
log, answers = AnswerLog(Path(folder)), pickle.loads(Path(file).read_bytes())
for answer in answers[int(n) :: 2]:
    log.remember("ct", answer)
    log.known("ct", "ann")
"""


def test_two_processes_remember_at_once_and_lose_no_answer(tmp_path: Path, given: Any) -> None:
    answers = [given(version=str(n)) for n in range(MOST_ANSWERS)]
    file = tmp_path / "answers.pickle"
    file.write_bytes(pickle.dumps(answers))
    command = [sys.executable, "-c", _PROCESS, str(tmp_path / "log"), str(file)]
    processes = [subprocess.Popen([*command, str(n)]) for n in range(2)]
    assert [process.wait() for process in processes] == [0, 0]
    known = AnswerLog(tmp_path / "log").known("ct", "ann")
    assert {nodule.model_version for nodule in known} == {str(n) for n in range(MOST_ANSWERS)}


def test_answers_for_what_an_image_held_before_it_was_replaced_are_left_out(
    tmp_path: Path, given: Any
) -> None:
    log = AnswerLog(tmp_path)
    log.remember("ct", replace(given(version="1"), content="old"))
    log.remember("ct", replace(given(version="2"), content="new"))
    assert {known.model_version for known in log.known("ct", "ann", "new")} == {"2"}
    assert len(log.drawn("ct", "new")) == 4
    assert {known.model_version for known in log.known("ct", "ann")} == {"1", "2"}
    assert log.known("ct", "ann", "newest") == []


def test_a_damaged_file_and_a_folder_that_cannot_be_written_are_done_without(
    tmp_path: Path, given: Any
) -> None:
    log = AnswerLog(tmp_path)
    log.remember("ct", given())
    (file,) = log._folder_of("ct").iterdir()
    file.write_bytes(b"PK nothing")
    assert AnswerLog(tmp_path).known("ct", "ann") == []
    (tmp_path / "file").touch()
    blocked = AnswerLog(tmp_path / "file" / "answers")
    for _ in range(MOST_ANSWERS + 1):
        blocked.remember("ct", given())
    assert len(blocked.known("ct", "ann")) == 2 * MOST_ANSWERS
    assert len(blocked._not_stored) == MOST_ANSWERS


def test_answers_of_which_any_byte_is_damaged_are_done_without_until_the_next_one(
    tmp_path: Path, given: Any
) -> None:
    log = AnswerLog(tmp_path)
    log.remember("ct", given())
    (file,) = log._folder_of("ct").iterdir()
    content = file.read_bytes()
    for n in range(0, len(content), 17):
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
