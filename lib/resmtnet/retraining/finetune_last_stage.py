"""What new hidden layers see of nodules whose stage inputs are stored: no image is looked at again.

An embedding is the mean over the views, and so is what is kept of the inputs: the old embedding
moves by what the new layers change at the mean input. Measured in docs/readings.md.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from resmtnet.inference.ensemble import RawOutputs
from resmtnet.inference.model_folder import Model
from resmtnet.inference.out_of_distribution import fit_out_of_distribution
from resmtnet.retraining.backbone import Backbone, carried
from resmtnet.retraining.fit_heads import hidden
from resmtnet.retraining.linear_heads import weights_of
from resmtnet.retraining.stage import STAGE, Inputs, rows_of
from resmtnet.training.cached_nodule import CachedNodule
from resmtnet.training.carried_sets import read_calibration_set, read_replay, replay_files

State = Mapping[str, Tensor]


@dataclass(frozen=True, eq=False)
class NewHidden:
    """Hidden layers in place of those of a model."""

    model: Model
    states: Sequence[State]
    """Weights of each member."""
    inputs: Inputs
    """Of every nodule that is to be seen, by the id of its case."""

    def embed(self, ids: Sequence[str], embeddings: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return embeddings [N, members, D] by these layers.

        Args:
            ids: of the nodules.
            embeddings: [N, members, D] by the layers of the model.

        Raises:
            InputError: an id has no stage inputs.
        """
        entered = torch.from_numpy(rows_of(self.inputs, ids))
        seen = torch.from_numpy(embeddings)
        found = []
        for n, (old, new) in enumerate(zip(self.model.networks, self.states, strict=True)):
            before, after = (
                hidden(entered[:, n], layers, old.names) for layers in (weights_of(old), new)
            )
            found.append(seen[:, n] - before + after)
        return torch.stack(found, 1).numpy()

    def look(self, held: Sequence[CachedNodule]) -> list[CachedNodule]:
        """Return nodules that the model has seen as these layers see them."""
        if not held:
            return []
        seen = np.array([h.observation.embeddings for h in held], np.float32)
        embeddings = self.embed([h.case.id for h in held], seen)
        return [
            replace(h, observation=RawOutputs(h.observation.views, embeddings[n]))
            for n, h in enumerate(held)
        ]


def sight_of_hidden(model: Model, states: Sequence[State], inputs: Inputs) -> Backbone:
    """Return how new hidden layers see; what is stored of the model is re-embedded.

    Args:
        model: whose hidden layers they replace.
        states: weights of the new members.
        inputs: of the model's nodules and of the site's; see NewHidden.
    """
    new, folder = NewHidden(model, states, inputs), model.folder
    replay = read_replay(folder)
    replay = replace(
        replay, embeddings=new.embed([n.id for n in replay.nodules], replay.embeddings)
    )
    kept = new.look(read_calibration_set(folder))
    calibration = model.calibration
    if kept:
        seen, masks = [h.observation for h in kept], [h.mask_mean for h in kept]
        familiarity = fit_out_of_distribution(replay.flat, seen, masks)
        calibration = replace(calibration, familiarity=familiarity)
    return Backbone(new.look, calibration, kept, {**replay_files(replay), **carried(folder, STAGE)})
