"""What enters the hidden layers: looked at, stored in 5 bits, and seen again by new layers."""

from __future__ import annotations

import copy
from dataclasses import replace

import numpy as np
import pytest
import torch

from resmtnet.config import NetworkConfig
from resmtnet.errors import InputError, ModelError
from resmtnet.inference.ensemble import VIEWS, Ensemble
from resmtnet.network.resmtnet import ResMTNet
from resmtnet.retraining.finetune_last_stage import NewHidden
from resmtnet.retraining.linear_heads import HIDDEN
from resmtnet.retraining.stage import STAGE, look_at_stage, read_stage, rows_of, stage_files
from resmtnet.training.carried_sets import embed


def written(folder, inputs):
    for name, write in stage_files(inputs).items():
        write(folder / name)
    return read_stage(folder)


@pytest.mark.parametrize("dims", [2, 3])
def test_embeddings_are_what_the_hidden_layers_make_of_the_inputs(dims, small_archive, bright):
    """With a single view the mean over the views is the view itself."""
    torch.manual_seed(1)
    offsets_mm = tuple(np.linspace(-8, 7, 16)) if dims == 3 else bright.config.offsets_mm
    config = NetworkConfig(spatial_dims=dims, widths=(4, 4, 4), hidden=8, mask=False)
    network = ResMTNet(config).eval()
    inference = Ensemble([network], replace(bright.config, offsets_mm=offsets_mm))
    nodules = small_archive.nodules[:3]
    inputs = look_at_stage(inference, small_archive, nodules)
    linear(network)
    embeddings = embed(Ensemble([network], inference.config), small_archive, nodules).embeddings
    for n, nodule in enumerate(nodules):
        entered = torch.from_numpy(inputs[nodule.id][0]).chunk(2)
        hidden = [
            network.heads[b].hidden(part) for b, part in zip(network.names, entered, strict=True)
        ]
        told = torch.cat(hidden).detach().numpy()
        np.testing.assert_allclose(embeddings[n, 0], told, atol=1e-4)


def linear(network: ResMTNet) -> None:
    """Lift the hidden layers above 0, where they are linear and means of views add up."""
    with torch.no_grad():
        for branch in network.names:
            network.heads[branch].hidden.bias += 100.0


def test_progress_is_told(bright, small_archive):
    told = []
    look_at_stage(bright, small_archive, small_archive.nodules[:9], lambda *at: told.append(at))
    assert told == [(8, 9), (9, 9)]


def test_ordinary_answers_stay_as_they_are(bright, small_archive):
    nodules = small_archive.nodules[:2]
    before = embed(bright, small_archive, nodules).embeddings
    look_at_stage(bright, small_archive, nodules)
    np.testing.assert_array_equal(embed(bright, small_archive, nodules).embeddings, before)
    hidden = [m for member in bright.members for n, m in member.named_modules() if HIDDEN[:-1] in n]
    assert not any(layer._forward_pre_hooks for layer in hidden)


def test_inputs_take_five_bits_each_and_come_back_within_half_a_step(tmp_path):
    rng = np.random.default_rng(0)
    table = (rng.gamma(2, 1, (400, 2, 48)) * rng.gamma(1, 9, (1, 2, 48))).astype(np.float32)
    table[:, :, 5] = 3.0  # one that never varies
    inputs = {f"N{n}": row for n, row in enumerate(table)}
    again = written(tmp_path, inputs)
    assert list(again) == list(inputs)
    half_step = np.ptp(table, 0) / 31 / 2
    assert (np.abs(rows_of(again, list(inputs)) - table) <= half_step * 1.01 + 1e-5).all()
    assert (tmp_path / STAGE).stat().st_size < 400 * 2 * 48 * 5 / 8 + 8000


def networks_of_bright() -> tuple[ResMTNet, ...]:
    """The members of `bright` before their norms were folded."""
    torch.manual_seed(0)
    config = NetworkConfig(widths=(4, 4, 4), hidden=8)
    return tuple(ResMTNet(config).eval().requires_grad_(False) for _ in range(2))


@pytest.mark.parametrize("noise", [0.0, 0.05], ids=["same layers", "new layers"])
def test_layers_see_what_a_true_second_look_sees(noise, bright, small_archive, tmp_path, world):
    """The views differ, the layers are not linear and 5 bits are few: it is nearly the same."""
    nodules = small_archive.nodules
    inputs = written(tmp_path, look_at_stage(bright, small_archive, nodules))
    old = embed(bright, small_archive, nodules).embeddings
    networks = networks_of_bright()
    changed = [copy.deepcopy(network) for network in networks]
    generator = torch.Generator().manual_seed(2)
    for network in changed:
        for branch in network.names:
            weight = network.heads[branch].hidden.weight
            weight.data += noise * torch.randn(weight.shape, generator=generator)
    true = embed(Ensemble(changed, bright.config), small_archive, nodules).embeddings
    model = replace(world.model, networks=networks)
    new = NewHidden(model, [network.state_dict() for network in changed], inputs)
    seen = new.embed([n.id for n in nodules], old)
    assert len(VIEWS) > 1
    assert np.linalg.norm(seen - true) <= 0.1 * np.linalg.norm(true - old) + 1e-4


def test_missing_nodule_is_named():
    with pytest.raises(InputError, match=r"1 of 2 nodules .* such as N2"):
        rows_of({"N1": np.zeros((1, 2), np.float32)}, ["N1", "N2"])


def test_model_without_stage_inputs_is_told(tmp_path):
    with pytest.raises(InputError, match="this model does not carry"):
        read_stage(tmp_path)


def test_damaged_or_other_file_is_refused(tmp_path):
    (tmp_path / STAGE).write_bytes(b"no such file")
    with pytest.raises(ModelError, match="not a file of stage inputs"):
        read_stage(tmp_path)
    from safetensors.numpy import save_file

    one = np.zeros(1, np.float32)
    save_file({"inputs": one, "low": one, "step": one}, tmp_path / STAGE, {"schema": "other"})
    with pytest.raises(ModelError, match="schema 'other'"):
        read_stage(tmp_path)
