"""Logits, classes and scores of ONNX Runtime beside PyTorch, on the nodules of an archive.

python benchmarks/onnx_parity.py EXPORTED_FOLDER ARCHIVE
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import torch

from resmtnet.data.archive import Archive
from resmtnet.data.volumes import nodule_ct
from resmtnet.inference.characterizer import Characterizer
from resmtnet.inference.model_folder import read_model
from resmtnet.inference.onnx_members import with_onnx


def main(folder: Path, data: Path) -> None:
    torch.set_num_threads(1)
    model, archive = read_model(), Archive.open(data)
    one, other = Characterizer(model), Characterizer(with_onnx(model, folder))
    logits = mask = probability = score = 0.0
    same_class = same_mask = 0
    for nodule in archive.nodules:
        ct, centre = nodule_ct(archive, nodule)
        ((a,), (b,)) = (c.inference.heads([c.inference.sampler(ct, centre)]) for c in (one, other))
        for name, values in a.views.items():
            logits = max(logits, float(np.abs(values - b.views[name]).max()))
        masks = [
            c.inference.mask_probability(c.inference.sampler(ct, centre), -3, 3, c.inference.config)
            for c in (one, other)
        ]
        mask = max(mask, float(np.abs(masks[0] - masks[1]).max()))
        ((x,), (y,)) = (c(ct, [centre]) for c in (one, other))
        probability = max(probability, abs(x.probability_malignant - y.probability_malignant))
        score = max(score, abs(x.malignancy.score - y.malignancy.score))
        same_class += x.class_name == y.class_name
        same_mask += (x.mask is None) == (y.mask is None) and (
            x.mask is None or np.array_equal(x.mask, y.mask)
        )
    document = {
        "model": model.info.version,
        "nodules": len(archive.nodules),
        "greatest_difference": {
            "logits": logits,
            "mask_probability": mask,
            "probability_malignant": probability,
            "score": score,
        },
        "same_class": same_class,
        "same_mask": same_mask,
    }
    print(json.dumps(document, indent=1))


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
