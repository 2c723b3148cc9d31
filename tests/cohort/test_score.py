"""A cohort: nothing lost, nothing double, a bad study is a row, a stopped run continues."""

import json
import re
from functools import partial

import pytest

from made_findings import make_finding
from resmtnet.cohort.ledger import FINDINGS
from resmtnet.cohort.rows import COLUMNS, SCHEMA, SIZES
from resmtnet.cohort.score import ROWS, SUMMARY, score_cohort
from resmtnet.cohort.studies import list_studies
from resmtnet.ct.phantom import make_phantom, write_dicom_series, write_nifti
from resmtnet.errors import InputError
from resmtnet.findings import ModelInfo, findings_document

parquet = pytest.importorskip("pyarrow.parquet", reason="needs resmtnet[cohort]")


class FakeModel:
    """Two nodules in a search, one for each point; counts what it is asked; may stop."""

    def __init__(self, version="1", stop_after=None):
        self.info = ModelInfo("fake", version, version * 8)
        self.asked, self.stop_after = [], stop_after

    def find(self, ct, *, max_candidates=10, **_):
        if self.stop_after is not None and len(self.asked) >= self.stop_after:
            raise KeyboardInterrupt
        self.asked.append(ct.image_id)
        return [make_finding(ct.geometry, (12, 10, 6), n) for n in range(min(2, max_candidates))]

    def __call__(self, ct, centres_mm, *, context=None):
        self.asked.append(ct.image_id)
        return [make_finding(ct.geometry, (12, 10, 6), n) for n, _ in enumerate(centres_mm)]

    def document(self, ct, findings, timing_ms=None):
        return findings_document(
            findings,
            model=self.info,
            image_id=ct.image_id,
            shape_ijk=ct.geometry.size_ijk,
            spacing_ijk_mm=ct.geometry.spacing_mm,
        )


@pytest.fixture(scope="module")
def studies(tmp_path_factory):
    folder = tmp_path_factory.mktemp("cohort")
    phantom = make_phantom(shape_kji=(16, 24, 24), nodules=[], centre_lps_mm=(-75.0, 0.0, 20.0))
    write_nifti(phantom, folder / "a.nii")
    write_nifti(phantom, folder / "b.nii")
    write_dicom_series(phantom, folder / "dicom")
    (folder / "bad.nii").write_bytes(b"this is no image")
    return folder


def rows(out):
    return parquet.read_table(out / ROWS).to_pylist()


def test_every_study_has_its_rows_and_a_bad_one_its_reason(studies, tmp_path):
    outcome = score_cohort(list_studies(str(studies)), FakeModel, tmp_path)
    assert (outcome.studies, outcome.scored, outcome.failed, outcome.rows) == (4, 4, 1, 7)
    table = rows(tmp_path)
    assert len({row["study_id"] for row in table}) == 4
    (bad,) = [row for row in table if row["status"] == "failed"]
    assert bad["study_id"] == "bad.nii"
    assert bad["reason"]
    assert bad["nodule_id"] is None
    (first, _) = [row for row in table if row["study_id"] == "a.nii"]
    assert (first["class_name"], first["score_low"], first["long_axis_mm"]) == (
        "malignant",
        3.3,
        8.4,
    )
    assert parquet.read_schema(tmp_path / ROWS).metadata[b"schema"] == b"resmtnet.cohort/1"
    assert "bad.nii" in (tmp_path / SUMMARY).read_text()


def test_a_stopped_run_continues_and_nothing_is_double(studies, tmp_path):
    listed = list_studies(str(studies))
    with pytest.raises(KeyboardInterrupt):
        score_cohort(listed, partial(FakeModel, stop_after=1), tmp_path)
    model = FakeModel()
    score_cohort(listed, lambda: model, tmp_path)
    assert len(model.asked) == 2
    score_cohort(listed, FakeModel, tmp_path / "at-once")
    assert rows(tmp_path) == rows(tmp_path / "at-once")


def test_finished_studies_are_scored_again_only_for_another_image_model_or_option(
    studies, tmp_path
):
    listed = list_studies(str(studies))
    score_cohort(listed, FakeModel, tmp_path)
    again, newer, fewer = FakeModel(), FakeModel("2"), FakeModel("2")
    score_cohort(listed, lambda: again, tmp_path)
    score_cohort(listed, lambda: newer, tmp_path)
    score_cohort(listed, lambda: fewer, tmp_path, max_candidates=1)
    assert (len(again.asked), len(newer.asked), len(fewer.asked)) == (0, 3, 3)
    assert len(rows(tmp_path)) == 4


def test_a_damaged_entry_of_the_ledger_is_scored_again(studies, tmp_path):
    listed, model = list_studies(str(studies)), FakeModel()
    score_cohort(listed, FakeModel, tmp_path)
    for file in (tmp_path / FINDINGS).iterdir():
        if json.loads(file.read_text())["study_id"] == "a.nii":
            file.write_text("{")
    score_cohort(listed, lambda: model, tmp_path)
    assert len(model.asked) == 1
    assert len(rows(tmp_path)) == 7


def test_a_csv_names_images_and_points(studies, tmp_path):
    table = studies / "points.csv"
    table.write_text("path,x,y,z\na.nii,-75,0,20\na.nii,-70,0,20\nb.nii,-75,0,20\n")
    listed = list_studies(str(table))
    table.unlink()
    assert [len(study.points_lps_mm) for study in listed] == [2, 1]
    assert score_cohort(listed, FakeModel, tmp_path).rows == 3


def test_the_page_explains_every_column_and_names_the_schema(checkout):
    page = (checkout / "docs" / "cohort.md").read_text("utf-8")
    told = set(re.findall(r"`(\w+)`", page.partition("## Columns")[2]))
    told |= {f"{name}{end}" for name in SIZES for end in ("_low", "_high")}
    assert set(COLUMNS) - told == set()
    assert f"`{SCHEMA}`" in page


def test_what_holds_no_ct_is_refused(tmp_path):
    with pytest.raises(InputError, match="no CT"):
        list_studies(str(tmp_path))
    with pytest.raises(InputError, match="neither a folder"):
        list_studies(str(tmp_path / "missing"))
