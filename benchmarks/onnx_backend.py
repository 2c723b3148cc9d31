"""CPU time and answers of a click with ONNX Runtime beside PyTorch, in turns on one phantom.

python benchmarks/onnx_backend.py EXPORTED_FOLDER
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path

import numpy as np
import torch

from resmtnet.ct import CTVolume
from resmtnet.ct.phantom import NoduleSpec, make_phantom
from resmtnet.inference.characterizer import Characterizer
from resmtnet.inference.model_folder import read_model
from resmtnet.inference.onnx_members import with_onnx

NODULES = 20
CENTRE_LPS_MM = (-75.0, 0.0, 20.0)


def main(folder: Path) -> None:
    torch.set_num_threads(1)
    model = read_model()
    backends = {"torch": Characterizer(model), "onnx": Characterizer(with_onnx(model, folder))}
    times_s: dict[str, list[float]] = {name: [] for name in backends}
    greatest, same = 0.0, 0
    for seed in range(NODULES):
        spec = NoduleSpec(5.0 + seed, "solid", centre_lps_mm=CENTRE_LPS_MM)
        phantom = make_phantom(
            seed=seed, shape_kji=(48, 64, 64), nodules=[spec], centre_lps_mm=CENTRE_LPS_MM
        )
        geometry = phantom.geometry
        ct = CTVolume.from_array(
            phantom.hu,
            geometry.spacing_mm[::-1],
            origin_mm=geometry.origin_lps_mm,
            direction=geometry.direction,
        )
        found = {}
        for name, characterizer in backends.items():
            started = time.process_time()
            (found[name],) = characterizer(ct, [CENTRE_LPS_MM])
            times_s[name].append(time.process_time() - started)
        one, other = found["torch"], found["onnx"]
        greatest = max(greatest, abs(one.probability_malignant - other.probability_malignant))
        same += one.class_name == other.class_name and np.array_equal(one.mask, other.mask)
    cpu_ms = {name: 1e3 * float(np.median(values[2:])) for name, values in times_s.items()}
    document = {
        "clicks": NODULES,
        "cpu_ms": cpu_ms,
        "onnx_share_of_torch": cpu_ms["onnx"] / cpu_ms["torch"],
        "same_class_and_mask": int(same),
        "greatest_difference_of_probability": greatest,
    }
    print(json.dumps(document, indent=1))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
