"""Short names of types that many modules share."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

Json = dict[str, Any]
"""A JSON object, as `json.loads` gives it."""

Point = tuple[float, float, float]
"""x, y, z in LPS mm."""

Progress = Callable[[int, int], None]
"""Called with items done and items in all."""

PartProgress = Callable[[str, int, int], None]
"""Called with the name of a part, items of it done and in all."""
