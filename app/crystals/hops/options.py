"""What may be asked of a search for hops; one object from the request to the search."""

from dataclasses import dataclass
from typing import Literal

#: The most distinct hops where no number is asked for.
USUAL_HOPS = 60


@dataclass(frozen=True, kw_only=True)
class HopOptions:
    """How hops are searched for in a crystal.

    Attributes:
        mechanism: whether the crystal's other mobile ions stay. "auto" is "vacancy", whatever cell the crystal is
            written in: a crystal that was uploaded with its ions has them.
        max_hops: maximum number of distinct hops with a band, the shortest first; None takes the usual number.
        max_hop_angstrom: the longest hop, angstrom.
        include_close_hops: whether hops that pass an atom within 1.2 angstrom, or run over a third site, are predicted.
        interstitials: whether interstitial sites are added to the sites of the crystal's own ions.
        max_orderings: maximum number of orderings of a host with shared or partly empty sites.
    """

    mechanism: Literal["auto", "vacancy", "dilute"] = "auto"
    max_hops: int | None = None
    max_hop_angstrom: float = 5.0
    include_close_hops: bool = False
    interstitials: bool = False
    max_orderings: int = 3


#: What is searched for where nothing else is asked.
USUAL = HopOptions()
