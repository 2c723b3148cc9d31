"""Runs a whole simulation on one or several models, and writes its figures."""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from resmtnet.active.simulation.pool import Pool, pool_of
from resmtnet.active.simulation.report import write_report
from resmtnet.active.simulation.rounds import Curves, Game, play
from resmtnet.active.simulation.strategies import Strategy
from resmtnet.active.simulation.summary import Games, summarise
from resmtnet.data.archive import Archive
from resmtnet.errors import InputError
from resmtnet.inference.characterizer import Characterizer
from resmtnet.types import Json, PartProgress

LEAST_SEEDS = 2
GAME = Game()


def simulate(
    pools: Sequence[Pool],
    strategies: Mapping[str, Strategy],
    seeds: Sequence[int],
    game: Game = GAME,
    tell: PartProgress = lambda what, done, of: None,
) -> Json:
    """Run all strategies on all pools and return the document of figures.

    Args:
        pools: one for each model.
        strategies: by name.
        seeds: one run of each strategy for each seed, on every pool.
        game: numbers of labels.
        tell: called with the name of the work, the amount done, and the total.

    Raises:
        InputError: too few seeds for an interval, no pool, or a budget larger than a pool.
    """
    if len(seeds) < LEAST_SEEDS or not pools:
        raise InputError(
            f"{len(seeds)} seeds and {len(pools)} pools; at least {LEAST_SEEDS} seeds and one pool "
            "are needed"
        )
    played: dict[str, list[Curves]] = {name: [] for name in strategies}
    described, sizes = [], []
    for pool in pools:
        name = f"{pool.model.version} ({pool.model.sha256[:8]})"
        found = play(pool, strategies, seeds, game, functools.partial(tell, f"games {name}"))
        for strategy, curves in found.items():
            played[strategy] += curves
        sizes += [len(pool.split(seed)[0]) for seed in seeds]
        described.append(
            {
                "model": name,
                "nodules": len(pool.nodules),
                "patients": len(set(pool.patients.tolist())),
            }
        )
    games = Games.of(played, game, float(np.mean(sizes)))
    return summarise(games, described, seeds)


def run(
    archive: Path,
    models: Sequence[Path],
    out: Path,
    strategies: Mapping[str, Strategy],
    seeds: Sequence[int],
    game: Game = GAME,
    device: str | None = None,
    tell: PartProgress = lambda what, done, of: None,
) -> tuple[Json, list[Path]]:
    """Embed the nodules, run the strategies and write the report.

    Args:
        archive: its labels are revealed step by step.
        models: folders of models; the pool of each is the patients that it was not trained on.
        out: folder to write.
        strategies: by name.
        seeds: one run of each strategy for each seed, on every pool.
        game: numbers of labels.
        device: for the embeddings.
        tell: see simulate.

    Returns:
        The document, and the files written.
    """
    opened = Archive.open(archive)
    pools = [
        pool_of(
            opened,
            Characterizer.load(model, device),
            functools.partial(tell, f"embedding {model}"),
        )
        for model in models
    ]
    document = simulate(pools, strategies, seeds, game, tell)
    return document, write_report(out, document)
