"""The joint loss: what is missing teaches nothing, what is there teaches."""

import pytest
import torch

from resmtnet.characteristics import TASKS
from resmtnet.config import LossConfig, NetworkConfig
from resmtnet.network.losses import joint_loss, mask_loss
from resmtnet.network.resmtnet import Output, ResMTNet


def example(weight: float = 1.0):
    torch.manual_seed(0)
    outputs = {t.name: torch.randn(3, t.outputs, requires_grad=True) for t in TASKS}
    targets = {}
    for task in TASKS:
        size = task.kind == "size"
        targets[task.name] = torch.rand(3) + 1 if size else torch.rand(3, task.outputs).softmax(1)
        targets[f"{task.name}_weight"] = torch.full((3,), weight)
        targets[f"{task.name}_variance"] = torch.full((3,), 0.01)
    return Output(outputs, torch.zeros(3, 1)), targets


def test_missing_targets_give_no_loss_and_no_gradient():
    output, targets = example(weight=0.0)
    loss = sum(joint_loss(output, targets, LossConfig(), 3).values())
    loss.backward()
    assert loss.item() == 0
    assert all(not x.grad.any() for x in output.tasks.values())


def test_one_missing_task_leaves_the_others():
    output, targets = example()
    targets["texture_weight"] = torch.zeros(3)
    targets["texture"] = torch.full((3, 5), float("nan"))
    loss = sum(joint_loss(output, targets, LossConfig(), 3).values())
    loss.backward()
    assert torch.isfinite(loss)
    assert output.tasks["class"].grad.any()


@pytest.mark.parametrize(
    ("setting", "term"),
    [
        ("class_weight", "class"),
        ("malignancy_weight", "malignancy"),
        ("score_weight", "score"),
        ("size_weight", "long_axis_mm"),
        ("size_spread_weight", "long_axis_mm_spread"),
        ("texture_class_weight", "texture_class"),
        ("rating_weight", "spiculation"),
    ],
)
def test_each_weight_scales_its_term(setting, term):
    output, targets = example()
    off = joint_loss(output, targets, LossConfig(**{setting: 0.0}), 3)
    on = joint_loss(output, targets, LossConfig(**{setting: 1.0}), 3)
    assert off[term] == 0
    assert on[term] != 0


def test_sigma_cannot_excuse_a_wrong_size():
    output, targets = example()
    spread = joint_loss(output, targets, LossConfig(), 3)["long_axis_mm_spread"]
    spread.backward()
    gradient = output.tasks["long_axis_mm"].grad
    assert not gradient[:, 0].any()
    assert gradient[:, 1].any()


def test_mask_loss_is_least_for_the_right_mask():
    share = torch.zeros(1, 2, 16, 16)
    share[..., 4:9, 5:11] = 1
    right, empty = (share * 2 - 1) * 10, torch.full_like(share, -10.0)
    assert mask_loss(right, share).max() < 0.01 < mask_loss(empty, share).min()


def test_the_network_learns_one_batch_by_heart():
    torch.manual_seed(0)
    net = ResMTNet(NetworkConfig(widths=(8, 12, 16), hidden=32, dropout=0.0))
    slices = torch.randn(4, 3, 24, 24)
    _, targets = example()
    targets = {k: torch.cat([v, v[:1]]) for k, v in targets.items()}
    targets["class"] = torch.tensor([[1.0, 0], [0, 1], [1, 0], [0, 1]])
    optimizer = torch.optim.AdamW(net.parameters(), lr=5e-3)
    first = last = None
    for _ in range(60):
        terms = joint_loss(net(net.encode(slices), 4), targets, LossConfig(), 4)
        loss = terms["class"] + terms["long_axis_mm"]
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        first, last = first or loss.item(), loss.item()
    assert last < 0.05 * first
