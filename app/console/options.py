"""Options that several commands take: what is predicted, and how a crystal's hops are found."""

from typing import Annotated, Literal

import typer

#: The heading of help under which options of a crystal stand.
OF_CRYSTALS = "Of a crystal"

Model = Annotated[str | None, typer.Option(help="A checkpoint; `ionpath models` lists them.")]
ThresholdEv = Annotated[float, typer.Option(help="A good conductor's barrier is below this, eV.")]
Mechanism = Annotated[
    Literal["auto", "vacancy", "dilute"],
    typer.Option(
        help="`vacancy`: the crystal's other mobile ions stay and one is missing. `dilute`: all others are removed, "
        "for an empty host. `auto` is `vacancy` where the file holds the ion.",
        rich_help_panel=OF_CRYSTALS,
    ),
]
MaxHops = Annotated[
    int | None,
    typer.Option(
        min=1,
        help="Most distinct hops, shortest first (IONPATH_MAX_HOPS; 60). Where there are more, the percolation "
        "barriers are upper bounds.",
        rich_help_panel=OF_CRYSTALS,
    ),
]
MaxHopAngstrom = Annotated[
    float,
    typer.Option(min=0.1, max=12, help="The longest hop between two sites, angstrom.", rich_help_panel=OF_CRYSTALS),
]
Interstitials = Annotated[
    bool,
    typer.Option(
        "--interstitials",
        help="Look for interstitial sites beside the ion's own. An ion that the file does not hold always hops "
        "between such sites.",
        rich_help_panel=OF_CRYSTALS,
    ),
]
IncludeCloseHops = Annotated[
    bool,
    typer.Option(
        "--include-close-hops",
        help="Predict hops whose straight line passes an atom within 1.2 angstrom, or a third site, as well; else "
        "they are listed as left out and percolate nowhere.",
        rich_help_panel=OF_CRYSTALS,
    ),
]
