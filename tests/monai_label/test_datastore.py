import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import itk
import numpy as np
import pydicom
import pytest

from resmtnet.ct import CTVolume
from resmtnet.ct.series_index import SeriesIndex
from resmtnet.monai_label import datastore as module
from resmtnet.monai_label import downloads
from resmtnet.monai_label.datastore import StudiesDatastore
from resmtnet.monai_label.refusals import Refusal
from resmtnet.monai_label.volume_paths import VolumePaths


@pytest.fixture
def studies(tmp_path: Path) -> Path:
    folder = tmp_path / "studies"
    folder.mkdir()
    return folder


@pytest.fixture(autouse=True)
def always_look(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_REFRESH_S", -1.0)


@pytest.fixture
def open_store(studies: Path) -> Callable[[], StudiesDatastore]:
    return lambda: StudiesDatastore(str(studies), auto_reload=False)


def status(call: Callable[..., Any], *arguments: Any) -> int:
    with pytest.raises(Refusal) as caught:
        call(*arguments)
    return caught.value.status_code


def test_every_volume_format_is_listed(studies: Path, open_store: Any, write_image: Any) -> None:
    for n, extension in enumerate([".nii", ".nii.gz", ".nrrd", ".mha", ".mhd"]):
        write_image(studies / f"ct{n}{extension}")
    (studies / "picture.png").touch()
    store = open_store()
    assert sorted(store.list_images()) == [f"ct{n}" for n in range(5)]
    for image_id in store.list_images():
        assert CTVolume.open(store.volume_path(image_id)).geometry.size_ijk == (24, 20, 12)


def test_a_file_is_downloaded_as_it_is(studies: Path, open_store: Any, write_image: Any) -> None:
    path = write_image(studies / "ct.mha")
    assert open_store().get_image_uri("ct") == str(path)


@pytest.mark.parametrize("nested", ["", "patient/study/series"])
def test_a_series_is_one_image_wherever_it_lies(
    studies: Path, open_store: Any, write_series: Any, nested: str
) -> None:
    uid = write_series(studies / nested)
    store = open_store()
    assert store.list_images() == [uid]
    assert CTVolume.open(store.volume_path(uid)).image_id == uid


def test_a_series_asked_for_by_name_is_found_at_once(
    studies: Path, open_store: Any, write_series: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_REFRESH_S", 1e9)
    store = open_store()
    uid = write_series(studies / "copied in since")
    assert store.volume_path(uid)


def test_series_in_one_folder_are_told_apart(
    studies: Path, open_store: Any, write_series: Any
) -> None:
    uids = [write_series(studies / "mixed", slices=n) for n in (5, 7)]
    write_series(studies / "mixed", modality="MR")
    store = open_store()
    assert sorted(store.list_images()) == sorted(uids)
    for uid, slices in zip(uids, (5, 7), strict=True):
        assert CTVolume.open(store.volume_path(uid)).geometry.size_ijk[2] == slices


def test_what_is_no_ct_volume_is_not_listed(
    studies: Path, open_store: Any, write_series: Any
) -> None:
    write_series(studies / "mr", modality="MR")
    write_series(studies / "one-slice", slices=1)
    write_series(studies / ".hidden")
    write_series(studies / "labels" / "final")
    (studies / "broken").mkdir()
    (studies / "broken" / "x.dcm").write_bytes(bytes(128) + b"DICM\x02\x00")
    assert open_store().list_images() == []


def test_a_series_is_downloaded_as_one_file_on_its_grid(
    studies: Path, open_store: Any, write_series: Any, read_array: Any, voxels: np.ndarray
) -> None:
    uid = write_series(studies / "a")
    store = open_store()
    path = store.get_image_uri(uid)
    array, image = read_array(path)
    assert os.path.basename(path) == f"{uid}.nrrd"
    assert np.array_equal(array, voxels)
    geometry = CTVolume.open(store.volume_path(uid)).geometry
    assert np.allclose(itk.origin(image), geometry.origin_lps_mm)
    assert np.allclose(itk.spacing(image), geometry.spacing_mm)
    assert store.get_image_uri(uid) == path
    assert store.get_image(uid).read(4) == b"NRRD"
    info = store.get_image_info(uid)
    assert (info["path"], info["name"]) == (path, f"{uid}.nrrd")


def test_a_header_with_a_data_file_is_downloaded_as_one_file(
    studies: Path, open_store: Any, write_image: Any, read_array: Any, voxels: np.ndarray
) -> None:
    write_image(studies / "ct.mhd")
    path = open_store().get_image_uri("ct")
    assert path.endswith("ct.nrrd")
    assert np.array_equal(read_array(path)[0], voxels)


def test_a_data_file_that_changes_is_downloaded_as_it_is_now(
    studies: Path, open_store: Any, write_image: Any, read_array: Any, voxels: np.ndarray
) -> None:
    path = write_image(studies / "ct.mhd")
    store = open_store()
    store.get_image_uri("ct")
    with path.with_suffix(".raw").open("r+b") as file:
        file.write((voxels + 1).astype("<i2").tobytes())
    assert np.array_equal(read_array(store.get_image_uri("ct"))[0], voxels + 1)


def test_a_series_that_changes_is_converted_again(
    studies: Path, open_store: Any, write_series: Any
) -> None:
    uid = write_series(studies / "a")
    store = open_store()
    before = store.get_image_uri(uid)
    max((studies / "a").iterdir()).unlink()
    assert store.get_image_uri(uid) != before


def test_a_series_with_a_file_that_was_rewritten_in_place_is_converted_again(
    studies: Path, open_store: Any, write_series: Any
) -> None:
    """As rsync --inplace does: neither the folder's time nor that of the other files changes."""
    uid = write_series(studies / "a")
    store = open_store()
    before = store.get_image_uri(uid)
    for file in sorted((studies / "a").iterdir())[1:3]:
        header = pydicom.dcmread(file)
        header.PixelData = bytes(len(header.PixelData))
        with file.open("r+b") as target:
            header.save_as(target)
    after = store.get_image_uri(uid)
    assert after != before
    assert (itk.array_from_image(itk.imread(after)) == 0).all((1, 2)).sum() == 2


def test_a_series_that_cannot_be_read_is_refused(
    studies: Path, open_store: Any, write_series: Any
) -> None:
    uid = write_series(studies / "a")
    store = open_store()
    for path in (studies / "a").iterdir():
        path.write_bytes(path.read_bytes()[:-100])
    assert status(store.get_image_uri, uid) == 400


def test_downloads_stay_within_their_limit(
    studies: Path, open_store: Any, write_series: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(downloads, "_DOWNLOADS_BYTES", 1)
    uids = [write_series(studies / str(n)) for n in range(2)]
    store = open_store()
    first, second = (store.get_image_uri(uid) for uid in uids)
    assert not os.path.exists(first)
    assert os.path.exists(second)


def test_series_that_are_copied_in_or_taken_out_are_seen(
    studies: Path, open_store: Any, write_series: Any
) -> None:
    store = open_store()
    uid = write_series(studies / "later" / "series")
    assert store.list_images() == [uid]
    assert store.status()["total"] == 1
    for path in (studies / "later" / "series").iterdir():
        path.unlink()
    assert store.list_images() == []


@pytest.mark.parametrize("uid", ["../../../../escaped", "1.2/3", "..", "1.2 3", "1." * 70 + "1"])
def test_a_series_whose_uid_is_none_is_not_listed_and_said(
    studies: Path,
    open_store: Any,
    write_series: Any,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
    uid: str,
) -> None:
    monkeypatch.setattr(pydicom.config.settings, "reading_validation_mode", pydicom.config.IGNORE)
    monkeypatch.setattr(pydicom.config.settings, "writing_validation_mode", pydicom.config.IGNORE)
    write_series(studies / "a", uid=uid)
    store = open_store()
    assert store.list_images() == []
    assert store.get_image_uri(uid) == ""
    assert f"{uid!r} is no UID" in caplog.text


def _move(files: list[Path], folder: Path) -> None:
    folder.mkdir()
    for file in files:
        file.rename(folder / file.name)


@pytest.mark.parametrize("moved", [1, 6, 11])
def test_a_series_spread_over_folders_is_refused_and_said_and_keeps_its_labels(
    studies: Path, open_store: Any, write_series: Any, write_image: Any, tmp_path: Path,
    caplog: pytest.LogCaptureFixture, moved: int,
) -> None:  # fmt: skip
    uid = write_series(studies / "a")
    store = open_store()
    store.save_label(uid, str(write_image(tmp_path / "label.nrrd")), "final", {"by": "me"})
    _move(sorted((studies / "a").iterdir())[:moved], studies / "b")
    assert store.list_images() == [uid]
    with pytest.raises(Refusal, match="spread over 2 folders") as caught:
        store.volume_path(uid)
    assert caught.value.status_code == 400
    assert status(store.get_image_uri, uid) == 400
    assert "spread over 2 folders" in caplog.text
    assert store.get_label_info(uid, "final")["by"] == "me"


def test_a_series_in_one_folder_and_copies_of_its_files_in_another_are_one_image(
    studies: Path, open_store: Any, write_series: Any
) -> None:
    uid = write_series(studies / "b")
    (studies / "a").mkdir()
    for file in sorted((studies / "b").iterdir())[:3]:
        (studies / "a" / file.name).write_bytes(file.read_bytes())
    store = open_store()
    assert store.list_images() == [uid]
    assert CTVolume.open(store.volume_path(uid)).geometry.size_ijk == (24, 20, 12)


def test_a_link_that_leads_back_is_followed_once(
    studies: Path, open_store: Any, write_series: Any
) -> None:
    uid = write_series(studies / "a")
    (studies / "a" / "back").symlink_to(studies)
    assert open_store().list_images() == [uid]


def test_a_large_folder_is_indexed_bit_by_bit(studies: Path, write_series: Any) -> None:
    uid = write_series(studies / "a")
    index = SeriesIndex(studies)
    assert not index.refresh(budget_s=-1)
    assert not index.complete
    assert index.refresh()
    assert index.complete
    assert list(index.series) == [uid]


def test_labels_of_a_series_survive_a_restart(
    studies: Path, open_store: Any, write_series: Any, write_image: Any, tmp_path: Path
) -> None:
    uid = write_series(studies / "a")
    label = write_image(tmp_path / "label.nrrd")
    assert open_store().save_label(uid, str(label), "final", {"label_info": [1]}) == uid
    store = open_store()
    assert store.get_labeled_images() == [uid]
    assert Path(store.get_label_uri(uid, "final")).read_bytes() == label.read_bytes()
    assert store.get_label_info(uid, "final")["label_info"] == [1]


def test_labels_are_kept_while_the_index_is_incomplete(
    studies: Path, open_store: Any, write_series: Any, write_image: Any, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    uid = write_series(studies / "a")
    open_store().save_label(uid, str(write_image(tmp_path / "l.nrrd")), "final", {"by": "me"})
    monkeypatch.setattr(module, "_FIRST_SCAN_S", -1.0)
    store = open_store()
    monkeypatch.setattr(module, "_FIRST_SCAN_S", 60.0)
    assert store.list_images() == [uid]
    assert store.get_label_info(uid, "final")["by"] == "me"


def test_the_list_of_images_is_never_half_written(
    studies: Path, open_store: Any, write_image: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_image(studies / "ct.nii")
    store = open_store()
    path = studies / "datastore_v2.json"
    before = path.read_text()

    def fail(*_: Any) -> None:
        raise OSError("disk full")

    monkeypatch.setattr(os, "replace", fail)
    with pytest.raises(OSError, match="disk full"):
        store.set_name("other")
    assert path.read_text() == before
    assert "ct" in json.loads(before)["objects"]


@pytest.mark.parametrize("image_id", ["../x", "a/b", "..", "a\\b", ".x", "x\0"])
def test_an_id_that_is_a_path_is_refused(
    open_store: Any, write_image: Any, tmp_path: Path, image_id: str
) -> None:
    image = str(write_image(tmp_path / "up.nrrd"))
    store = open_store()
    assert status(store.add_image, image_id, image, {}) == 400
    assert status(store.save_label, image_id, image, "final", {}) == 404
    assert store.get_image_uri(image_id) == ""


@pytest.mark.parametrize("tag", ["../../x", "a/b", "..", "", ".x", "a\\b"])
def test_a_tag_that_is_a_path_is_refused(
    studies: Path, open_store: Any, write_image: Any, tag: str
) -> None:
    image = str(write_image(studies / "ct.nrrd"))
    store = open_store()
    assert status(store.save_label, "ct", image, tag, {}) == 400
    assert status(store.get_label_uri, "ct", tag) == 400


def test_an_upload_is_stored_under_its_id(
    studies: Path, open_store: Any, write_image: Any, tmp_path: Path
) -> None:
    store = open_store()
    assert store.add_image("new", str(write_image(tmp_path / "tmp.nii.gz")), {}) == "new"
    assert store.volume_path("new") == str(studies / "new.nii.gz")


@pytest.mark.parametrize("image_id", ["ct", ""])
@pytest.mark.parametrize("extension", [".nrrd", ".nii.gz"])
def test_an_upload_under_an_id_that_is_taken_is_refused_and_changes_nothing(
    studies: Path, open_store: Any, write_image: Any, tmp_path: Path, image_id: str, extension: str
) -> None:
    path = write_image(studies / "ct.nrrd")
    before = path.read_bytes()
    store = open_store()
    other = tmp_path / f"ct{extension}"
    other.write_bytes(b"of another patient")
    with pytest.raises(Refusal, match="ct exists already; delete it first") as caught:
        store.add_image(image_id, str(other), {})
    assert (caught.value.status_code, "\n" in caught.value.detail) == (409, False)
    assert path.read_bytes() == before
    assert sorted(file.name for file in studies.glob("ct*")) == ["ct.nrrd"]
    store.remove_image("ct")
    assert store.add_image("ct", str(write_image(tmp_path / "new.nrrd")), {}) == "ct"


def test_an_upload_does_not_get_the_readings_of_an_image_that_is_gone(
    studies: Path, write_image: Any, tmp_path: Path
) -> None:
    store = StudiesDatastore(str(studies), auto_reload=False, read=lambda: {"gone"})
    image = str(write_image(tmp_path / "up.nrrd"))
    with pytest.raises(Refusal, match="gone has readings; upload under another id") as caught:
        store.add_image("gone", image, {})
    assert caught.value.status_code == 409
    assert store.add_image("new", image, {}) == "new"


def test_an_upload_that_is_no_volume_or_hides_a_series_is_refused(
    studies: Path, open_store: Any, write_image: Any, write_series: Any, tmp_path: Path
) -> None:
    uid = write_series(studies / "a")
    store = open_store()
    (tmp_path / "x.sh").touch()
    assert status(store.add_image, "x", str(tmp_path / "x.sh"), {}) == 400
    assert status(store.add_image, uid, str(write_image(tmp_path / "t.nrrd")), {}) == 409


def test_a_refused_upload_is_called_by_the_name_that_it_was_given(
    open_store: Any, tmp_path: Path
) -> None:
    upload = tmp_path / "tmpqx7z.mha"  # what MONAI Label makes of "thorax.mha"
    upload.write_text("ObjectType = Image\nNDims = 3\nDimSize = 4 x 2\n")
    with pytest.raises(Refusal) as caught:
        open_store().add_image("thorax", str(upload), {})
    assert caught.value.status_code == 400
    assert "thorax.mha" in caught.value.detail
    assert "tmpqx7z" not in caught.value.detail


def test_an_upload_that_names_another_file_is_refused(
    studies: Path, open_store: Any, tmp_path: Path
) -> None:
    secret = tmp_path / "secret.raw"
    secret.write_bytes(bytes(32))
    upload = tmp_path / "up.nrrd"
    upload.write_text(
        f"NRRD0004\ntype: uint8\ndimension: 3\nsizes: 4 4 2\nencoding: raw\ndata file: {secret}\n\n"
    )
    store = open_store()
    assert status(store.add_image, "new", str(upload), {}) == 400
    assert store.list_images() == []


def test_a_file_can_be_removed_and_a_series_cannot(
    studies: Path, open_store: Any, write_image: Any, write_series: Any
) -> None:
    uid = write_series(studies / "a")
    path = write_image(studies / "ct.nrrd")
    store = open_store()
    store.remove_image("ct")
    assert not path.exists()
    assert status(store.remove_image, uid) == 400
    assert status(store.remove_image, "gone") == 404
    assert store.list_images() == [uid]


def test_what_is_not_there_is_said(open_store: Any) -> None:
    store = open_store()
    assert status(store.update_image_info, "x", {}) == 404
    assert status(store.update_label_info, "x", "final", {}) == 404
    assert status(VolumePaths(store).get_image_uri, "x") == 404
    assert store.get_image_info("x") == {}


def test_inference_sees_the_series_itself(
    studies: Path, open_store: Any, write_series: Any, private_cache: Path
) -> None:
    uid = write_series(studies / "a")
    path = VolumePaths(open_store()).get_image_uri(uid)
    assert Path(path).parent == studies / "a"
    assert not private_cache.exists()


def test_a_name_of_slicer_is_taken_and_means_the_upload_of_that_client(
    studies: Path, open_store: Any, write_image: Any, tmp_path: Path
) -> None:
    store, name, info = open_store(), "4: LUNG 1.0", {"client_id": "ann"}
    image_id = store.add_image(name, str(write_image(tmp_path / "up.nii.gz")), info)
    assert image_id == "4_ LUNG 1.0"
    assert store.image_of(name, "ann") == image_id
    mask = tmp_path / "mask.nrrd"
    mask.write_bytes(b"NRRD0004\n")
    assert store.save_label(name, str(mask), "final", info) == image_id
    assert store.image_of(name, "ben") == name


def test_a_volume_that_is_there_already_is_not_stored_again(
    studies: Path, open_store: Any, write_image: Any, tmp_path: Path
) -> None:
    store, info = open_store(), {"client_id": "ann"}
    first = store.add_image("ct", str(write_image(tmp_path / "a.nii.gz")), info)
    again = open_store().add_image("ct", str(write_image(tmp_path / "b.nrrd")), info)
    assert first == again == "ct"
    assert sorted(file.name for file in studies.glob("ct*")) == ["ct.nii.gz"]


def test_two_patients_with_one_name_are_two_images(
    studies: Path, open_store: Any, write_image: Any, tmp_path: Path
) -> None:
    store, info = open_store(), {"client_id": "ann"}
    first = write_image(tmp_path / "a.nrrd")
    other, image = tmp_path / "b.nrrd", itk.imread(str(first))
    image.SetOrigin([0.0, 0.0, 0.0])
    itk.imwrite(image, str(other))
    assert store.add_image("ct", str(first), info) == "ct"
    second = store.add_image("ct", str(other), info)
    assert second.startswith("ct-")
    assert store.image_of("ct", "ann") == second
    store.offered("ct", "ann")
    assert store.image_of("ct", "ann") == "ct", "now the client means the one it was offered"


def test_the_model_s_own_label_of_a_study_that_is_read_again_is_not_handed_out(
    studies: Path, write_image: Any
) -> None:
    again: set[str] = set()
    store = StudiesDatastore(str(studies), auto_reload=False, read_again=lambda: again)
    label = write_image(studies.parent / "label.nrrd")
    for name in ("ct1", "ct2"):
        write_image(studies / f"{name}.nrrd")
        for tag in ("original", "final"):
            store.refresh()
            store.save_label(name, str(label), tag, {})
    again.add("ct1")
    assert store.get_label_uri("ct1", "original") == ""
    assert set(store.json()["objects"]["ct1"]["labels"]) == {"final"}
    assert Path(store.get_label_uri("ct1", "final")).is_file()
    assert Path(store.get_label_uri("ct2", "original")).is_file()
    again.clear()
    assert Path(store.get_label_uri("ct1", "original")).is_file()
    assert set(store.json()["objects"]["ct1"]["labels"]) == {"final", "original"}
