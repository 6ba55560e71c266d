"""What a stretch of load came to: its counts in a line, and each figure beside whether it is as it should be."""

from dataclasses import dataclass

from rich.console import Console

from benchmarks.faults.traffic import Tally
from benchmarks.faults.world import World


@dataclass(frozen=True, kw_only=True)
class Figure:
    """Something measured, with a sentence about it.

    Attributes:
        words: what, and how much.
        well: whether it is within its bound.
    """

    words: str
    well: bool = True


async def print_counts(console: Console, world: World, what: str, tally: Tally) -> bool:
    """Print what became of the calls and of their rows, once the log has them, and say whether nothing went wrong."""
    rows = await world.logged_with(tally.answered)
    lost = len(set(tally.answered) - set(rows))
    duplicated = len(rows) - len(set(rows))
    console.print(
        f"{what}: sent {tally.sent}, answered {len(tally.answered)}, refused {tally.refused_count}, "
        f"unanswered {tally.unanswered}, lost {lost}, duplicated {duplicated}, wrong {len(tally.wrong)}"
    )
    for wrong in tally.wrong[:3]:
        console.print(f"    {wrong}", style="red")
    return not (lost or duplicated or tally.unanswered or tally.wrong)


def print_figures(console: Console, figures: list[Figure]) -> bool:
    """Print each, what is past its bound in red, and say whether none is."""
    for figure in figures:
        console.print(f"    {figure.words}", style="" if figure.well else "red")
    return all(figure.well for figure in figures)
