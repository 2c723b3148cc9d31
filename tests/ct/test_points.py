"""Points as people give them."""

import numpy as np
import pytest

from resmtnet.ct.geometry import Geometry
from resmtnet.ct.points import as_point, point_inside
from resmtnet.errors import PointError

GRID = Geometry((10, 20, 30), (1.0, 1.0, 2.0), (-5.0, 0.0, 100.0), np.eye(3))


@pytest.mark.parametrize(
    "value", [(1, 2), (1, 2, np.nan), (1, 2, np.inf), "1,2,3", None, [[1, 2, 3]], (1, "x", 3)]
)
def test_what_is_no_point_is_refused_in_one_line(value):
    with pytest.raises(PointError, match="three finite numbers") as caught:
        as_point(value)
    assert "\n" not in str(caught.value)


def test_point_of_the_outermost_voxels_is_inside():
    assert point_inside((-5.4, 19.4, 158.9), GRID) == (-5.4, 19.4, 158.9)


def test_point_outside_is_refused_with_the_ends_of_the_ct():
    with pytest.raises(PointError, match=r"outside the CT, which spans .*-5.* to .*158"):
        point_inside((5.0, -3.0, 120.0), GRID)


def test_a_whole_number_beyond_float_is_no_point() -> None:
    with pytest.raises(PointError, match="finite"):
        as_point([10**400, 0, 0])
