"""Names of devices."""

import pytest

from resmtnet.errors import ConfigError
from resmtnet.inference.device import check_device, choose_device


@pytest.mark.parametrize("name", ["gpu", "cuda:", "cuda:x", "cpu:0", "", "mps"])
def test_what_is_no_device_is_refused_with_those_allowed(name):
    with pytest.raises(ConfigError, match="allowed are cpu, cuda"):
        check_device(name)


def test_device_that_this_machine_lacks_is_refused():
    with pytest.raises(ConfigError, match="CUDA devices"):
        choose_device("cuda:99")
