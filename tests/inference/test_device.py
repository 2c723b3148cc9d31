"""Names of devices."""

import pytest
import torch

from resmtnet.errors import ConfigError
from resmtnet.inference.device import check_device, choose_device


@pytest.mark.parametrize("name", ["gpu", "cuda:", "cuda:x", "cpu:0", "", "mps"])
def test_what_is_no_device_is_refused_with_those_allowed(name):
    with pytest.raises(ConfigError, match="allowed are cpu, cuda"):
        check_device(name)


def test_device_that_this_machine_lacks_is_refused():
    with pytest.raises(ConfigError, match="CUDA devices"):
        choose_device("cuda:99")


@pytest.mark.parametrize(("has_gpu", "device"), [(True, "cuda"), (False, "cpu")])
@pytest.mark.parametrize("asked", [None, "auto", "AUTO"])
def test_auto_is_a_gpu_where_there_is_one(monkeypatch, has_gpu, device, asked):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: has_gpu)
    assert choose_device(asked) == device
