import json
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from resmtnet.errors import ModelError
from resmtnet.monai_label.infer import BatchInfer, SharedCharacterizer, make_tasks
from resmtnet.monai_label.refusals import Refusal
from resmtnet.monai_label.served_model import ServedModel
from resmtnet.monai_label.settings import MODELS, AppSettings

POINT = [8, 8, 5]


@pytest.fixture
def image(tmp_path: Path, write_image: Callable[[Path], Path]) -> str:
    return str(write_image(tmp_path / "studies" / "ct.nii"))


def run(task: Any, **request: Any) -> tuple[Path, dict[str, Any]]:
    file, params = task(request)
    return Path(file), params


def refused(task: Any, **request: Any) -> Refusal:
    with pytest.raises(Refusal) as caught:
        task(request)
    assert "\n" not in caught.value.detail
    return caught.value


def test_a_click_gives_a_mask_and_the_findings(tasks: Any, image: str, read_array: Any) -> None:
    file, params = run(tasks["resmtnet_click"], image=image, foreground=[POINT])
    array = read_array(file)[0]
    assert file.name.endswith(".nrrd")
    assert array[5, 8, 8] == 2
    assert params["schema"] == "resmtnet.findings/1"
    assert params["label_names"] == {"benign": 1, "malignant": 2, "indeterminate": 3}
    assert params["nodules"][0]["centre_ijk"] == pytest.approx(POINT)
    assert set(params["timing_ms"]) == {"open", "characterize", "write"}
    json.dumps(params, allow_nan=False)
    file.unlink()


@pytest.mark.parametrize("extension", [".nrrd", ".nii.gz", ".nii"])
def test_mask_has_the_extension_that_is_asked(tasks: Any, image: str, extension: str) -> None:
    file, _ = run(tasks["resmtnet"], image=image, result_extension=extension)
    assert file.name.endswith(extension)
    file.unlink()


def test_without_points_the_whole_ct_is_searched(tasks: Any, fake: Any, image: str) -> None:
    file, params = run(tasks["resmtnet"], image=image, max_candidates=3, context="incidental")
    assert params["nodules"][0]["source"] == "candidate"
    assert fake.calls[0]["max_candidates"] == 3
    assert fake.calls[0]["context"] == "incidental"
    file.unlink()


def test_all_models_give_the_same_findings(tasks: Any, image: str) -> None:
    answers = [run(task, image=image, foreground=[POINT]) for task in tasks.values()]
    assert len({json.dumps(params["nodules"]) for _, params in answers}) == 1
    assert [file.suffix for file, _ in answers] == [".nrrd", ".nrrd", ".json"]
    for file, _ in answers:
        file.unlink()


def test_context_of_the_request_reaches_the_model(tasks: Any, fake: Any, image: str) -> None:
    file, _ = run(
        tasks["resmtnet_click"], image=image, foreground=POINT, context="screening_followup"
    )
    assert fake.calls[0]["context"] == "screening_followup"
    file.unlink()


def test_the_brock_risk_is_answered_only_where_it_is_asked(tasks: Any, image: str) -> None:
    for brock, answered in (({"age": 62}, True), (None, False)):
        file, params = run(tasks["resmtnet_click"], image=image, foreground=[POINT], brock=brock)
        (nodule,) = params["nodules"]
        assert (nodule["risk"] is not None) is answered
        file.unlink()


def test_a_prior_that_is_given_by_size_is_answered(tasks: Any, image: str) -> None:
    prior = {"date": "2024-01-31", "current_date": "2024-07-29", "volume_mm3": 120}
    file, params = run(tasks["resmtnet_click"], image=image, foreground=[POINT], prior=prior)
    (nodule,) = params["nodules"]
    assert nodule["prior"]["status"] == "given"
    assert nodule["prior"]["interval_days"] == 180
    file.unlink()


def test_a_prior_that_is_later_is_refused(tasks: Any, image: str) -> None:
    prior = {"date": "2024-09-30", "current_date": "2024-07-29", "volume_mm3": 120}
    asked = {"image": image, "foreground": [POINT], "prior": prior}
    assert refused(tasks["resmtnet_click"], **asked).status_code == 400


def test_a_prior_ct_of_the_studies_is_compared(
    tasks: Any, image: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = []

    def compared(model: Any, prior: Any, current: Any, findings: Any, **options: Any) -> Any:
        seen.append((prior.path, current.path, options["prior_category"], options["visits"][0].day))
        return [replace(finding, prior={"status": "paired"}) for finding in findings]

    monkeypatch.setattr("resmtnet.followup.compare.compare_findings", compared)
    prior = {"image": image, "date": "2024-01-31", "category": "3"}
    file, params = run(tasks["resmtnet_click"], image=image, foreground=[POINT], prior=prior)
    assert params["nodules"][0]["prior"] == {"status": "paired"}
    assert seen == [(Path(image), Path(image), "3", date(2024, 1, 31))]
    file.unlink()


def test_markups_are_json_whatever_extension_is_asked(tasks: Any, image: str) -> None:
    file, _ = run(tasks["resmtnet_findings"], image=image, result_extension=".nrrd")
    assert json.loads(file.read_text())["markups"][0]["type"] == "Fiducial"
    file.unlink()


def test_a_finding_without_a_mask_still_gives_file_and_params(
    tasks: Any, fake: Any, image: str, read_array: Any
) -> None:
    fake.masks = False
    for name, task in tasks.items():
        file, params = run(task, image=image, foreground=POINT)
        assert params["nodules"][0]["centroid_lps_mm"] is None
        assert name == "resmtnet_findings" or not read_array(file)[0].any()
        file.unlink()


def test_a_click_without_a_point_is_refused(tasks: Any, image: str) -> None:
    assert refused(tasks["resmtnet_click"], image=image).status_code == 400


def test_a_point_outside_is_refused_and_named(tasks: Any, image: str) -> None:
    refusal = refused(tasks["resmtnet"], image=image, foreground=[[99, 0, 0]])
    assert refusal.status_code == 400
    assert "(99, 0, 0)" in refusal.detail


def test_an_unreadable_image_is_refused_in_one_line(tasks: Any, tmp_path: Path) -> None:
    broken = tmp_path / "broken.nii"
    broken.write_bytes(b"no image")
    assert refused(tasks["resmtnet"], image=str(broken)).status_code == 400


def test_an_unexpected_failure_names_its_kind_only(
    tasks: Any, fake: Any, image: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: Any, **__: Any) -> None:
        raise RuntimeError("first line\nsecond line")

    monkeypatch.setattr(type(fake), "find", fail)
    refusal = refused(tasks["resmtnet"], image=image)
    assert refusal.status_code == 500
    assert "RuntimeError: first line" in refusal.detail
    assert "second line" not in refusal.detail


def test_damaged_weights_are_told_as_unavailable(
    tasks: Any, fake: Any, image: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: Any, **__: Any) -> None:
        raise ModelError("the weights are damaged")

    monkeypatch.setattr(type(fake), "find", fail)
    assert refused(tasks["resmtnet"], image=image).status_code == 503


def test_no_file_is_left_when_the_answer_fails(
    tasks: Any, fake: Any, image: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    monkeypatch.setattr(type(fake), "document", lambda *_: 1 / 0)
    before = sorted(os.listdir(tmp_path))
    refused(tasks["resmtnet"], image=image)
    assert sorted(os.listdir(tmp_path)) == before


def test_models_announce_what_the_viewers_list(tasks: Any) -> None:
    infos = {name: task.info() for name, task in tasks.items()}
    assert tuple(infos) == MODELS
    assert [info["type"] for info in infos.values()] == ["segmentation", "deepedit", "detection"]
    for info in infos.values():
        assert info["labels"] == {"benign": 1, "malignant": 2, "indeterminate": 3}
        assert info["config"]["context"][0] == "none"
    assert all(task.is_valid() for task in tasks.values())


def test_settings_choose_models_type_and_first_context(served: ServedModel) -> None:
    settings = AppSettings(models=("resmtnet_click",), context="incidental")
    (name, task), *rest = make_tasks(SharedCharacterizer(served, settings)).items()
    assert (name, rest) == ("resmtnet_click", [])
    assert task.info()["type"] == "deepedit"
    assert task.info()["config"]["context"][0] == "incidental"


def opened(shared: SharedCharacterizer, path: str) -> Any:
    return shared.open(Path(path))


def test_a_ct_stays_open_until_it_changes(served: ServedModel, image: str) -> None:
    shared = SharedCharacterizer(served, AppSettings())
    first = opened(shared, image)
    assert opened(shared, image) is first
    os.utime(image, ns=(1, 1))
    assert opened(shared, image) is not first


def test_a_series_is_opened_again_when_a_file_is_added(
    served: ServedModel, tmp_path: Path, write_series: Callable[..., str]
) -> None:
    write_series(tmp_path / "dicom")
    shared = SharedCharacterizer(served, AppSettings())
    file = str(min((tmp_path / "dicom").iterdir()))
    first = opened(shared, file)
    assert opened(shared, file) is first
    (tmp_path / "dicom" / "more").touch()
    assert opened(shared, file) is not first


def test_a_header_whose_data_file_changes_is_read_as_it_is_now(
    served: ServedModel, tmp_path: Path, write_image: Callable[[Path], Path], voxels: np.ndarray
) -> None:
    path = write_image(tmp_path / "ct.mhd")
    shared = SharedCharacterizer(served, AppSettings())
    assert np.array_equal(shared.open(path).array(), voxels)
    with path.with_suffix(".raw").open("r+b") as file:
        file.write((voxels + 1).astype("<i2").tobytes())
    assert np.array_equal(shared.open(path).array(), voxels + 1)


@pytest.mark.parametrize(("kept", "same"), [(0, False), (1, False), (2, True)])
def test_as_many_cts_stay_open_as_the_settings_say(
    served: ServedModel, tmp_path: Path, write_image: Callable[[Path], Path], kept: int, same: bool
) -> None:
    shared = SharedCharacterizer(served, AppSettings(ct_cache=kept))
    paths = [str(write_image(tmp_path / f"{n}.nii")) for n in range(2)]
    first = opened(shared, paths[0])
    opened(shared, paths[1])
    assert (opened(shared, paths[0]) is first) is same


def test_many_requests_at_once_are_all_answered(tasks: Any, image: str, read_array: Any) -> None:
    def click(n: int) -> int:
        file, params = run(tasks["resmtnet_click"], image=image, foreground=[[4 + n, 8, 5]])
        value = int(read_array(file)[0][5, 8, 4 + n])
        file.unlink()
        return value * int(params["nodules"][0]["centre_ijk"][0] == 4 + n)

    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(click, range(16))) == [2] * 16


@pytest.mark.parametrize(
    ("cores", "before", "after"), [(8, 8, 4), (1, 2, 1), (None, 2, 1), (8, 3, 3)]
)
def test_torch_leaves_half_of_the_cores_and_never_takes_more_than_it_was_given(
    served: ServedModel, monkeypatch: pytest.MonkeyPatch, cores: int | None, before: int, after: int
) -> None:
    kept = torch.get_num_threads()
    monkeypatch.setattr(os, "cpu_count", lambda: cores)
    try:
        torch.set_num_threads(before)
        SharedCharacterizer(served, AppSettings())
        assert torch.get_num_threads() == after
    finally:
        torch.set_num_threads(kept)


def test_batch_inference_works_without_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    asked: list[str] = []

    def infer(request: dict[str, Any], datastore: Any) -> dict[str, Any]:
        asked.append(request["image"])
        return {"params": np.float32(1)}

    request = {"model": "resmtnet", "images": ["a", "b"], "device": "cpu"}
    assert set(BatchInfer()(request, None, infer)) == {"a", "b"}
    assert sorted(asked) == ["a", "b"]
