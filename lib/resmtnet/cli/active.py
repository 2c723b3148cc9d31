"""`resmtnet simulate-active-learning`: compares strategies for choosing the next study."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from resmtnet.cli.output import DeviceOption, JsonOption, echo, print_json, progress
from resmtnet.errors import InputError

EXAMPLE = (
    "Example: resmtnet simulate-active-learning --data stacks/ --model runs/half-a/model "
    "--model runs/half-b/model --out active/"
)


def register(app: typer.Typer) -> None:
    """Add the command of this module."""
    app.command("simulate-active-learning", epilog=EXAMPLE)(simulate_active_learning)


def simulate_active_learning(
    data: Annotated[Path, typer.Option(help="Archive made by `resmtnet prepare`.")],
    model: Annotated[
        list[Path],
        typer.Option(
            help="Folder of a model that was trained without some patients of the archive; the "
            "simulation uses these patients. Repeat for several models."
        ),
    ],
    out: Annotated[Path, typer.Option(help="Folder to write.")],
    seeds: Annotated[int, typer.Option(min=2, help="Runs of each strategy on each model.")] = 10,
    first_seed: Annotated[int, typer.Option(min=0, help="First seed; the others follow it.")] = 0,
    strategies: Annotated[
        str | None,
        typer.Option(
            help="random, stratified, informative, diverse, separated by commas; default: all."
        ),
    ] = None,
    budgets: Annotated[
        str | None,
        typer.Option(help="Numbers of labels, separated by commas; default: 50 to 800."),
    ] = None,
    device: DeviceOption = None,
    as_json: JsonOption = False,
) -> None:
    """Label an archive step by step, in the order each strategy chooses; write learning curves."""
    from resmtnet.active.simulation.experiment import run
    from resmtnet.active.simulation.report import goal_text
    from resmtnet.active.simulation.rounds import BUDGETS, Game
    from resmtnet.active.simulation.strategies import STRATEGIES, strategies_named

    chosen = strategies_named(_parts(strategies)) if strategies else STRATEGIES
    game = Game(_numbers(budgets) if budgets else BUDGETS)
    with progress() as tell:
        document, files = run(
            data,
            model,
            out,
            chosen,
            range(first_seed, first_seed + seeds),
            game,
            device,
            lambda what, done, of: tell(what, done, of, ""),
        )
    if as_json:
        print_json(document)
        return
    echo(goal_text(document))
    echo(f"Never worse than stratified random: {', '.join(document['never_worse'])}")
    echo("\n".join(str(file) for file in files))


def _parts(text: str) -> list[str]:
    return [part.strip() for part in text.split(",") if part.strip()]


def _numbers(text: str) -> tuple[int, ...]:
    try:
        return tuple(int(part) for part in _parts(text))
    except ValueError as error:
        raise InputError(
            f"--budgets {text}: whole numbers separated by commas are needed"
        ) from error
