"""How large is a mass told to be? Solid balls of known size in a phantom of the whole chest.

    python benchmarks/masses.py [--model DIR] [--diameter MM ...]

The data's largest nodule has 50 mm; beyond it only phantoms can be measured.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from resmtnet import Characterizer, CTVolume
from resmtnet.ct.phantom import NoduleSpec, make_phantom

LUNG_LPS_MM = (-75.0, 5.0, 20.0)
DIAMETERS_MM = (30.0, 40.0, 45.0, 50.0, 55.0, 60.0)
SHAPE_KJI = (120, 150, 150)


def main() -> None:
    """Print a line a mass."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--model", type=Path)
    parser.add_argument("--diameter", type=float, action="append")
    given = parser.parse_args()
    model = Characterizer.load(given.model)
    for diameter_mm in given.diameter or DIAMETERS_MM:
        mass = NoduleSpec(diameter_mm, "solid", centre_lps_mm=LUNG_LPS_MM)
        phantom = make_phantom(3, SHAPE_KJI, (1.0, 1.0, 1.0), [mass], centre_lps_mm=LUNG_LPS_MM)
        grid = phantom.geometry
        ct = CTVolume.from_array(phantom.hu, grid.spacing_mm[::-1], grid.origin_lps_mm)
        (found,) = model(ct, [LUNG_LPS_MM])
        told = found.size.equivalent_diameter_mm
        truth = phantom.nodules[0].equivalent_diameter_mm
        size = "no size" if told is None else f"{told:.1f} mm"
        print(f"{truth:.1f} mm: {size}, {found.class_name}; {' '.join(found.warnings)}", flush=True)


if __name__ == "__main__":
    main()
