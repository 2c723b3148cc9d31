"""The network: shapes, switches, links, size and reach."""

import pytest
import torch

from resmtnet.characteristics import TASKS
from resmtnet.config import NetworkConfig
from resmtnet.errors import ConfigError
from resmtnet.network.resmtnet import ResMTNet, depth_to_space, space_to_depth

SMALL = NetworkConfig(widths=(4, 6, 8), hidden=10)


def network(**changes) -> ResMTNet:
    torch.manual_seed(0)
    return ResMTNet(NetworkConfig(**{"widths": (4, 6, 8), "hidden": 10, **changes})).eval()


def test_each_task_has_its_outputs():
    net = network()
    out = net(net.encode(torch.randn(2, 5, 48, 48)), 2)
    assert {name: tuple(x.shape) for name, x in out.tasks.items()} == {
        task.name: (2, task.outputs) for task in TASKS
    }
    assert out.embedding.shape == (2, 20)


def test_the_task_nodule_or_not_is_a_switch():
    assert "nodule" not in network().heads["classification"].outputs
    net = network(nodule_task=True)
    assert net(net.encode(torch.randn(2, 5, 48, 48)), 2).tasks["nodule"].shape == (2, 2)


def test_a_second_window_shows_a_part_of_the_range_stretched():
    net = network(second_window=(0.0, 0.5))
    seen = net._windows(torch.tensor([0.0, 0.25, 0.5, 0.9])[None, None, None])
    assert seen[0, :, 0].tolist() == [
        pytest.approx([0.0, 0.25, 0.5, 0.9]),
        pytest.approx([0.0, 0.5, 1.0, 1.0]),
    ]


@pytest.mark.parametrize("window", [(0.5,), (0.5, 0.5), (-0.1, 0.5), (0.0, 1.1)])
def test_a_second_window_outside_the_range_is_refused(window):
    with pytest.raises(ConfigError, match="second_window is"):
        network(second_window=window)


@pytest.mark.parametrize(("step", "inner", "levels"), [(1, 1, 5), (2, 2, 9), (1, 0, 4)])
def test_mask_has_a_logit_for_each_pixel_of_each_inner_level(step, inner, levels):
    net = network()
    masks = net.masks(net.encode(torch.randn(2, levels, 48, 48)), levels, step, inner)
    assert masks.shape == (2, levels - 2 * inner, 48, 48)


def test_three_dimensions_are_a_configuration():
    net = network(spatial_dims=3)
    features = net.encode(torch.randn(2, 16, 48, 48))
    assert net(features, 2).tasks["class"].shape == (2, 2)
    assert net.masks(features, 16, inner=2).shape == (2, 12, 48, 48)


def test_shipped_configuration_has_at_most_five_million_parameters():
    assert sum(p.numel() for p in ResMTNet(NetworkConfig()).parameters()) <= 5e6


def test_links_start_at_nothing_and_then_carry_one_branch_into_the_other():
    net, slices = network(), torch.randn(1, 5, 48, 48)
    before = net(net.encode(slices), 1).tasks["class"]
    torch.manual_seed(1)
    with torch.no_grad():
        for p in net.links["classification"].parameters():
            p.normal_()
        alone = net(net.encode(slices), 1).tasks["class"]
        net.branches["regression"][0].norm2.bias += 1.0
        moved = net(net.encode(slices), 1).tasks["class"]
    assert not torch.allclose(before, alone)
    assert not torch.allclose(alone, moved)


def test_without_links_the_branches_do_not_see_each_other():
    net, slices = network(links=False), torch.randn(1, 5, 48, 48)
    before = net(net.encode(slices), 1).tasks["class"]
    with torch.no_grad():
        net.branches["regression"][0].norm2.bias += 1.0
    torch.testing.assert_close(net(net.encode(slices), 1).tasks["class"], before)
    assert not list(net.links.parameters())


def test_single_branch_has_only_its_tasks():
    net = network(branches=("regression",))
    tasks = net(net.encode(torch.randn(1, 5, 48, 48)), 1).tasks
    assert "class" not in tasks
    assert "malignancy" in tasks


def test_without_residuals_the_same_weights_answer_otherwise():
    slices = torch.randn(1, 5, 48, 48)
    plain = network()
    bare = network(residual=False)
    bare.load_state_dict(plain.state_dict())
    one, other = (n(n.encode(slices), 1).tasks["class"] for n in (plain, bare))
    assert not torch.allclose(one, other)


def test_without_mask_there_is_no_decoder():
    assert not hasattr(network(mask=False), "decoder")


@pytest.mark.parametrize(
    "changes",
    [{"widths": (8, 6, 8)}, {"hidden": 12}, {"branch_blocks": 1}, {"spatial_dims": 3}],
)
def test_each_shape_setting_changes_the_parameters(changes):
    def count(net):
        return sum(p.numel() for p in net.parameters())

    assert count(network(**changes)) != count(network())


def test_dropout_acts_in_training_only():
    net = network(dropout=0.5)
    features = net.encode(torch.randn(4, 5, 48, 48))
    torch.testing.assert_close(net(features, 4).embedding, net(features, 4).embedding)
    net.train()
    assert not torch.allclose(net(features, 4).embedding, net(features, 4).embedding)


def test_unknown_branch_is_refused_with_those_allowed():
    with pytest.raises(ConfigError, match="classification"):
        network(branches=("detection",))


@pytest.mark.parametrize("shape", [(2, 3, 8, 8), (2, 3, 4, 8, 8)])
def test_depth_to_space_undoes_space_to_depth(shape):
    x = torch.randn(shape)
    assert torch.equal(depth_to_space(space_to_depth(x)), x)


def test_a_nodule_answers_alike_alone_and_in_a_batch():
    net, slices = network(), torch.randn(3, 5, 48, 48)
    together = net(net.encode(slices), 3).tasks["malignancy"]
    alone = net(net.encode(slices[1:2]), 1).tasks["malignancy"]
    torch.testing.assert_close(together[1:2], alone, atol=1e-5, rtol=1e-5)


def test_folded_norms_answer_alike():
    net = network()
    net.train()
    net.encode(torch.randn(4, 5, 48, 48) + 0.3)  # moves the norms' statistics
    net.eval()
    fused, slices = net.fused(), torch.randn(1, 5, 48, 48)
    one, other = net.encode(slices), fused.encode(slices)
    torch.testing.assert_close(
        net(one, 1).embedding, fused(other, 1).embedding, atol=1e-4, rtol=1e-4
    )
    torch.testing.assert_close(net.masks(one, 5), fused.masks(other, 5), atol=1e-4, rtol=1e-4)
    assert not [m for m in fused.modules() if isinstance(m, torch.nn.BatchNorm2d)]
