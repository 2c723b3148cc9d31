"""A site's nodules: looked at once, kept, and found again."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from resmtnet.errors import VolumeError
from resmtnet.inference.mask_threshold import LEVELS
from resmtnet.inference.model_folder import Model
from resmtnet.network.resmtnet import ResMTNet
from resmtnet.readings.record import Reading
from resmtnet.retraining.linear_heads import LinearHeads, move_biases
from resmtnet.retraining.nodule_cache import NoduleCache
from resmtnet.retraining.samples import Consensus, gather

CENTRE = (-75.0, 0.0, 20.0)


def read(**fields) -> Reading:
    values = {"image": "ct", "nodule": "1", "reader": "A", "centre_lps_mm": CENTRE}
    return Reading(**{**values, "malignancy": 4, **fields})


def said(*readings: Reading) -> list[Consensus]:
    return gather(readings)


@pytest.fixture
def site_of(ct, tmp_path, seeing_model):
    """Makes a site over one CT; says which images were opened."""
    opened: list[str] = []

    def open_ct(image: str):
        opened.append(image)
        if image != "ct":
            raise VolumeError(f"There is no image {image}.")
        return ct

    def make(of: Model = seeing_model, **options) -> NoduleCache:
        return NoduleCache(tmp_path / "site", of, open_ct, **options)

    make.opened = opened
    return make


def files(site: NoduleCache) -> set[str]:
    return {path.name for path in site.folder.rglob("*") if path.is_file()}


def test_sample_holds_what_the_model_sees_there(site_of, seeing_model):
    (sample,) = site_of().samples(said(read())).samples
    held = sample.held
    assert held.case.malignancy == (4,)
    assert held.observation.embeddings.shape == (1, 16)
    assert set(held.masks) == set(LEVELS)
    told = LinearHeads.of(seeing_model.networks).answer(held).observation.outputs["class"]
    np.testing.assert_allclose(held.observation.outputs["class"], told, atol=1e-5)


def test_nodule_is_looked_at_once(site_of):
    first = site_of().samples(said(read()))
    second = site_of().samples(said(read(malignancy=2)))
    assert site_of.opened == ["ct"]
    one, other = (found.samples[0].held for found in (first, second))
    np.testing.assert_allclose(one.observation.embeddings, other.observation.embeddings)
    assert other.case.malignancy == (2,)


def test_new_output_layers_answer_what_was_seen_and_a_new_trunk_looks_again(site_of, seeing_model):
    site_of().samples(said(read()))
    louder = replace(seeing_model, networks=(changed(seeing_model.networks[0], of_trunk=False),))
    (sample,) = site_of(louder).samples(said(read())).samples
    assert site_of.opened == ["ct"]
    told = LinearHeads.of(louder.networks).answer(sample.held).observation.outputs["class"]
    np.testing.assert_allclose(sample.held.observation.outputs["class"], told, atol=1e-5)
    other = replace(seeing_model, networks=(changed(seeing_model.networks[0], of_trunk=True),))
    site_of(other).samples(said(read()))
    assert site_of.opened == ["ct", "ct"]


def changed(network: ResMTNet, *, of_trunk: bool) -> ResMTNet:
    state = network.state_dict()
    if of_trunk:
        state = {**state, "stem.0.weight": state["stem.0.weight"] + 0.1}
    else:
        state = move_biases(state, {"class": np.array([0.0, 1.0])})
    other = ResMTNet(network.config)
    other.load_state_dict(state)
    return other.eval().requires_grad_(False)


@pytest.mark.parametrize("content", [b"", b"broken", b"\x08\0\0\0\0\0\0\0{}      "])
def test_broken_cache_is_made_again(site_of, content):
    site = site_of()
    site.samples(said(read()))
    for path in site.folder.rglob("*"):
        if path.is_file():
            path.write_bytes(content)
    (sample,) = site_of().samples(said(read())).samples
    assert sample.held.observation.embeddings.shape == (1, 16)
    assert site_of.opened == ["ct", "ct"]
    assert site_of().archive([sample], site.folder / "archive").nodules[0].id == "ct/1"


def test_damaged_crop_is_cut_out_again(site_of):
    site = site_of()
    (sample,) = site.samples(said(read())).samples
    (path,) = site.folder.glob("crops/*")
    whole = bytearray(path.read_bytes())
    name, extra = (int.from_bytes(whole[at : at + 2], "little") for at in (26, 28))
    whole[30 + name + extra] = 0xFF  # no kind of block that deflate knows
    path.write_bytes(whole)
    archive = site_of().archive([sample], site.folder / "archive")
    assert site_of.opened == ["ct", "ct"]
    assert archive.voxels_hu(archive.nodules[0]).std() > 0


def test_cache_leaves_no_drafts(site_of):
    site = site_of()
    site.samples(said(read(), read(nodule="2", centre_lps_mm=(-80.0, 0.0, 20.0))))
    assert len(files(site)) == 4
    assert not any(name.startswith(".draft") for name in files(site))


def test_image_that_is_gone_is_skipped_with_the_reason(site_of):
    found = site_of().samples(said(read(image="gone"), read()))
    assert [sample.consensus.image for sample in found.samples] == ["ct"]
    assert found.skipped == ("gone/1: There is no image gone.",)


def test_progress_is_told_nodule_by_nodule(site_of):
    told: list = []
    many = said(*(read(nodule=str(n)) for n in range(3)))
    site_of().samples(many, tell=lambda *done: told.append(done))
    assert told == [(1, 3), (2, 3), (3, 3)]


def test_crops_become_an_archive_that_can_be_trained_on(site_of, ct, tmp_path):
    site = site_of()
    (sample,) = site.samples(said(read(sizes={"long_axis_mm": 10.0}))).samples
    archive = site.archive([sample], tmp_path / "archive")
    (nodule,) = archive.nodules
    hu = archive.voxels_hu(nodule)
    k, j, i = (round(v) for v in nodule.centre_kji)
    centre = ct.crop(CENTRE, 2.0).hu
    assert centre.min() <= hu[k, j, i] <= centre.max()
    assert nodule.long_axis_mm == 10.0
    assert nodule.malignancy == (4,)
    assert not archive.mask(nodule).any()
    assert nodule.mask_readers == 0


def test_crops_are_kept_only_where_they_are_wanted(site_of):
    site = site_of(keep_crops=False)
    site.samples(said(read()))
    assert len(files(site)) == 1
