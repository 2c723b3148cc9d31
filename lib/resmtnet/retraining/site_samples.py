"""The nodules of a site as samples: what their readers say, and what the models see there."""

from __future__ import annotations

from collections.abc import Callable, Sequence, Set
from dataclasses import dataclass, replace
from itertools import compress
from pathlib import Path

from resmtnet.ct.volume import CTVolume
from resmtnet.inference.model_folder import Model
from resmtnet.retraining.linear_heads import LinearHeads
from resmtnet.retraining.nodule_cache import NoduleCache
from resmtnet.retraining.samples import Consensus, Sample
from resmtnet.training.cached_nodule import CachedNodule
from resmtnet.types import Progress


@dataclass(frozen=True, eq=False)
class SiteSamples:
    """The samples of a site, as the served version and the shipped model see them."""

    samples: Sequence[Sample]
    shipped_saw: Sequence[CachedNodule]
    """Their nodules, as the shipped model sees them."""
    skipped: tuple[str, ...]
    """Nodules that could not be looked at, each with the reason."""
    cache: NoduleCache
    """Keeps what the served version sees, and crops of the images."""

    def split(self, rejected: Set[str]) -> tuple[SiteSamples, list[Sample]]:
        """Return the samples of nodules, and those of places that readers called no nodule.

        Args:
            rejected: their ids.
        """
        is_nodule = [s.consensus.id not in rejected for s in self.samples]
        nodules = list(compress(self.samples, is_nodule))
        shipped_saw = list(compress(self.shipped_saw, is_nodule))
        others = [s for s in self.samples if s.consensus.id in rejected]
        return replace(self, samples=nodules, shipped_saw=shipped_saw), others


def look_at_nodules(
    consensus: Sequence[Consensus],
    parent: Model,
    shipped: Model,
    folder: Path,
    open_ct: Callable[[str], CTVolume],
    device: str,
    tell: Progress,
) -> SiteSamples:
    """Let the served version and the shipped model look at the nodules of a site.

    A nodule that one of the two cannot look at is skipped: without the shipped model nobody would
    judge its readings.

    Args:
        consensus: what the readers say of each nodule.
        parent: the served version.
        shipped: the model that came with the package.
        folder: of the cache; nothing is looked at twice.
        open_ct: gives the CT of an image id.
        device: of the networks.
        tell: called with nodules done and nodules in all.
    """
    cache = NoduleCache(folder, parent, open_ct, device=device)
    found = cache.samples(consensus, tell)
    samples, skipped = list(found.samples), found.skipped
    if LinearHeads.of(shipped.networks).trunk == cache.heads.trunk:
        by_id = {sample.consensus.id: sample.held for sample in samples}
    else:
        theirs = NoduleCache(folder, shipped, open_ct, device=device, keep_crops=False)
        again = theirs.samples([sample.consensus for sample in samples])
        by_id = {sample.consensus.id: sample.held for sample in again.samples}
        samples = [sample for sample in samples if sample.consensus.id in by_id]
        skipped = (*skipped, *again.skipped)
    shipped_saw = [by_id[sample.consensus.id] for sample in samples]
    return SiteSamples(samples, shipped_saw, skipped, cache)
