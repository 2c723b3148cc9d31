import tempfile
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from resmtnet.ct import Geometry
from resmtnet.errors import InputError, PointError
from resmtnet.monai_label.prior import PriorImage
from resmtnet.monai_label.refusals import Refusal
from resmtnet.monai_label.request import InferRequest, centres_lps, checked, is_upload
from resmtnet.monai_label.settings import AppSettings


def parse(settings: AppSettings | None = None, **request: Any) -> InferRequest:
    return InferRequest.parse({"image": "ct.nii", **request}, settings or AppSettings())


def test_without_points_the_whole_ct_is_asked() -> None:
    assert parse().points_ijk == ()
    assert parse(foreground=[]).points_ijk == ()


@pytest.mark.parametrize("foreground", [[1, 2, 3], [[1, 2, 3]], [[1, 2, 3], [1.0, 2.0, 3.0]]])
def test_one_point_may_be_bare_or_repeated(foreground: Any) -> None:
    assert parse(foreground=foreground).points_ijk == ((1.0, 2.0, 3.0),)


def test_points_keep_their_order() -> None:
    assert parse(foreground=[[3, 2, 1], [1, 2, 3]]).points_ijk == ((3, 2, 1), (1, 2, 3))


def test_points_under_class_names_are_read_as_deepedit_sends_them() -> None:
    request = {"benign": [], "malignant": [[1, 2, 3]], "indeterminate": [[4, 5, 6]]}
    assert parse(**request).points_ijk == ((1, 2, 3), (4, 5, 6))


def test_what_is_meant_for_other_models_is_ignored() -> None:
    request = parse(foreground=[[1, 2, 3]], background=[[0, 0, 0]], roi=[0, 9, 0, 9], label="x")
    assert request == parse(foreground=[[1, 2, 3]])


@pytest.mark.parametrize(
    "foreground",
    [
        *("1,2,3", [1, 2], [[1, 2]], [[1, 2, "3"]], [[1, 2, float("nan")]], [[True, 1, 2]]),
        *({"x": 1}, 7, [[10**400, 1, 2]]),
    ],
)
def test_what_is_no_point_is_refused(foreground: Any) -> None:
    with pytest.raises(PointError, match="foreground"):
        parse(foreground=foreground)


def test_too_many_points_are_refused() -> None:
    with pytest.raises(InputError, match="201 points"):
        parse(foreground=[[n, 0, 0] for n in range(201)])


def test_request_goes_before_settings() -> None:
    settings = AppSettings(context="incidental", max_candidates=7)
    assert parse(settings).context == "incidental"
    assert parse(settings).max_candidates == 7
    assert parse(settings, context="none").context is None
    assert parse(settings, context="screening_baseline").context == "screening_baseline"
    assert parse(settings, max_candidates="3").max_candidates == 3


def test_candidates_of_another_detector_are_lps_mm() -> None:
    assert parse().candidates_lps_mm is None
    assert parse(candidates=[[1, 2.5, -3], (4, 5, 6)]).candidates_lps_mm == (
        (1, 2.5, -3),
        (4, 5, 6),
    )


@pytest.mark.parametrize(
    "candidates", ["1,2,3", [[1, 2]], [[1, 2, "x"]], [[0, 0, 0]] * 201, [[10**400, 1, 2]]]
)
def test_what_is_no_list_of_candidates_is_refused(candidates: Any) -> None:
    with pytest.raises(PointError, match="candidates"):
        parse(candidates=candidates)


@pytest.mark.parametrize("field", [{"context": "x"}, {"max_candidates": 0}, {"image": None}])
def test_an_impossible_field_is_refused(field: dict[str, Any]) -> None:
    with pytest.raises(InputError):
        parse(**field)


def test_centres_are_lps_of_the_voxel_centres(grid: Geometry) -> None:
    (centre,) = centres_lps(((3, 4, 5),), grid)
    assert centre == pytest.approx(grid.ijk_to_lps((3, 4, 5)))


@pytest.mark.parametrize("point", [(-1, 0, 0), (0, 20, 0), (0, 0, 1e9)])
def test_a_point_outside_is_refused_with_the_size(grid: Geometry, point: Any) -> None:
    with pytest.raises(PointError, match=r"outside the CT, which has \(24, 20, 12\)"):
        centres_lps((point,), grid)


def app_of(studies: Path, sessions: Path | None = None) -> Any:
    """An app with one model, a folder of studies and maybe one of sessions."""
    store = None if sessions is None else SimpleNamespace(store_path=str(sessions))
    return SimpleNamespace(
        _infers={"resmtnet": None},
        studies=str(studies),
        datastore=lambda: object(),
        sessions=lambda: store,
    )


def status(tmp_path: Path, **request: Any) -> int | None:
    try:
        checked(request, app_of(tmp_path))
    except Refusal as refusal:
        return refusal.status_code
    return None


def test_the_id_of_an_image_is_kept_and_a_path_has_none(tmp_path: Path) -> None:
    file = tmp_path / "sessions" / "ct.nii"
    file.parent.mkdir()
    file.touch()
    app = app_of(tmp_path / "studies", tmp_path / "sessions")
    assert checked({"model": "resmtnet", "image": "some-id"}, app)["image_id"] == "some-id"
    assert checked({"model": "resmtnet", "image": str(file)}, app)["image_id"] is None


def test_the_id_of_a_prior_becomes_its_path_and_anything_else_is_refused(tmp_path: Path) -> None:
    app = app_of(tmp_path)
    paths = {"old": str(tmp_path / "old.nii")}
    app.datastore = lambda: SimpleNamespace(get_image_uri=lambda name: paths.get(name, ""))
    asked = {"model": "resmtnet", "image": "some-id"}
    prior = checked({**asked, "prior": {"image": "old", "date": "2024-01-31"}}, app)["prior"]
    assert prior == {"image": paths["old"], "date": "2024-01-31"}
    for image, code in (("new", 404), (str(tmp_path / "old.nii"), 404), (7, 400), ("", 400)):
        with pytest.raises(Refusal) as refused:
            checked({**asked, "prior": {"image": image}}, app)
        assert refused.value.status_code == code


@pytest.mark.parametrize("value", ["", None, 7])
def test_who_asks_is_a_name_or_nobody(value: object) -> None:
    assert parse(client_id="ann", image_id="a").client_id == "ann"
    assert parse(client_id="ann", image_id="a").image_id == "a"
    assert (parse(client_id=value).client_id, parse(image_id=value).image_id) == (None, None)


def test_markups_have_their_own_extension_whatever_is_asked() -> None:
    request = {"image": "ct.nii", "result_extension": ".png"}
    with pytest.raises(InputError, match="result_extension"):
        InferRequest.parse(request, AppSettings())
    assert InferRequest.parse(request, AppSettings(), gives_mask=False).image == Path("ct.nii")
    request["result_extension"] = "NII.GZ"
    assert InferRequest.parse(request, AppSettings()).mask_extension == ".nii.gz"


def test_a_point_is_demanded_by_a_model_of_points() -> None:
    with pytest.raises(PointError, match="no point"):
        InferRequest.parse({"image": "ct.nii"}, AppSettings(), needs_points=True)


def test_ids_and_files_of_the_studies_may_be_asked(tmp_path: Path) -> None:
    inside = tmp_path / "a" / "ct.nii"
    inside.parent.mkdir()
    inside.touch()
    assert status(tmp_path, model="resmtnet", image="some-id") is None
    assert status(tmp_path, model="resmtnet", image=str(inside)) is None


def test_files_elsewhere_may_not_be_asked(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to("/etc/hostname")
    for image in ("/etc/hostname", f"{tmp_path}/../", str(tmp_path / "link"), "/"):
        assert status(tmp_path, model="resmtnet", image=image) == 403


def test_an_id_may_be_the_name_of_something_where_the_server_was_started(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "here" / "demo").mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "here")
    app = app_of(tmp_path / "studies")
    volume = str(tmp_path / "studies" / "demo.nii")
    store = SimpleNamespace(get_image_uri=lambda name: volume if name == "demo" else "")
    app.datastore = lambda: store
    found = checked({"model": "resmtnet", "image": "demo"}, app)
    assert (found["image"], found["image_id"]) == (volume, "demo")
    (tmp_path / "here" / "other").touch()
    with pytest.raises(Refusal) as refused:
        checked({"model": "resmtnet", "image": "other"}, app)
    assert refused.value.status_code == 404


@pytest.mark.parametrize(
    "name", ["ct.nii", "1.2.840.nii.gz", "thorax 1.5 mm.nii.gz", "a.b-c_é", "x"]
)
def test_an_upload_is_known_again_whatever_it_was_called(name: str) -> None:
    suffix = "".join(Path(name).suffixes)  # as MONAI Label does
    with tempfile.NamedTemporaryFile(suffix=suffix) as file:
        assert is_upload(Path(file.name))
        assert not is_upload(Path(file.name).with_name(f"not-{Path(file.name).name}"))


def test_what_is_no_image_or_no_model_is_refused(tmp_path: Path) -> None:
    assert status(tmp_path, model="resmtnet", image=["x"]) == 400
    assert status(tmp_path, model="resmtnet", image="") == 400
    assert status(tmp_path, model="deepedit", image="x") == 404


def test_what_the_user_tells_for_the_brock_risk_is_read_or_refused() -> None:
    assert parse().brock is None
    told = parse(brock={"age": 62, "upper_lobe": [True, False]}).brock
    assert told is not None
    assert told.upper_lobe == (True, False)
    for age in (7, 10**400):
        with pytest.raises(InputError, match="age is"):
            parse(brock={"age": age})
    with pytest.raises(InputError, match="an object"):
        parse(brock="62")


def test_a_prior_may_be_sizes_for_each_point_or_an_image() -> None:
    assert parse().prior is None
    given = parse(prior={"date": "2024-05-06", "volume_mm3": 120}).prior
    assert isinstance(given, tuple)
    assert given[0].size.volume_mm3 == 120
    several = parse(prior=[{"volume_mm3": 120}, {"mean_diameter_mm": 6}]).prior
    assert isinstance(several, tuple)
    assert len(several) == 2
    image = parse(prior={"image": "prior.nii", "date": "2024-05-06", "category": "3"}).prior
    assert isinstance(image, PriorImage)
    assert (image.path, image.date, image.category) == (Path("prior.nii"), "2024-05-06", "3")


@pytest.mark.parametrize(
    "prior",
    ["2024", [], [1], {"image": 7}, {"image": "a", "volume_mm3": 9}, {"date": "2024-05-06"}],
)
def test_what_is_no_prior_is_refused(prior: Any) -> None:
    with pytest.raises(InputError, match="prior"):
        parse(prior=prior)
