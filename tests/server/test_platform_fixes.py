"""What is checked before functions of MONAI Label are called."""

from __future__ import annotations

from typing import Any

import pytest

from resmtnet.server.platform_fixes import _batch_numbers
from resmtnet.server.rules import Refused


@pytest.mark.parametrize("value", ["x", -1, 1.5, True, 10**400, [1]])
@pytest.mark.parametrize("name", ["max_workers", "max_batch_size"])
def test_a_batch_that_would_fail_unseen_is_refused(name: str, value: Any) -> None:
    with pytest.raises(Refused, match=name) as caught:
        _batch_numbers({"params": {name: value}})
    assert caught.value.status_code == 400


@pytest.mark.parametrize("params", [None, {}, {"max_workers": 0, "max_batch_size": 8}])
def test_what_clients_send_is_taken(params: Any) -> None:
    _batch_numbers({"params": params})
