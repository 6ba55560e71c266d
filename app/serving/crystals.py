"""Composes a crystal's answer from the predictions of its hops."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from app.crystals.hops import Hop, HopSearch
from app.crystals.percolation import percolation
from app.errors import IonpathError, NotReadyError
from app.models.prediction import Prediction
from app.serving.answers import CrystalAnswer, HopAnswer, SiteAnswer
from app.serving.wire import percolation_of


@dataclass(frozen=True, kw_only=True)
class HopOutcome:
    """What became of one hop's band."""

    outcome: Prediction | IonpathError
    cached: bool


def compose(search: HopSearch, outcomes: Mapping[int, HopOutcome]) -> CrystalAnswer:
    """Put a crystal's answer together.

    Args:
        search: the crystal's hops.
        outcomes: by the hop's index in the search; a hop without a band has none.

    Raises:
        IonpathError: the first one met, where not a single hop could be predicted.
    """
    errors = [found.outcome for found in outcomes.values() if isinstance(found.outcome, IonpathError)]
    for error in errors:
        if isinstance(error, NotReadyError) or len(errors) == len(outcomes):
            raise error
    hops = tuple(_hop(hop, outcomes.get(index)) for index, hop in enumerate(search.hops))
    barriers = [None if hop.prediction is None else hop.prediction.barrier_ev for hop in hops]
    return CrystalAnswer(
        sites=tuple(
            SiteAnswer(index=site.index, frac_coords=site.frac_coords, occupancy=site.occupancy)
            for site in search.sites
        ),
        hops=hops,
        percolation_ev=percolation_of(percolation(search.all_hops, barriers)),
        truncated=search.truncated,
        mechanism=search.mechanism,
    )


def decisive(crystal: CrystalAnswer) -> Prediction | None:
    """The prediction of the hop whose barrier percolates first; None where nothing percolates."""
    lowest_ev = crystal.percolation_ev.one_d
    predictions: Sequence[Prediction | None] = [hop.prediction for hop in crystal.hops]
    return next((one for one in predictions if one is not None and one.barrier_ev == lowest_ev), None)


def all_cached(crystal: CrystalAnswer) -> bool:
    """Whether there was something to predict and all of it came from the cache."""
    predicted = [hop.cached for hop in crystal.hops if hop.prediction is not None]
    return bool(predicted) and all(predicted)


def _hop(hop: Hop, found: HopOutcome | None) -> HopAnswer:
    failed = found.outcome if found is not None and isinstance(found.outcome, IonpathError) else None
    return HopAnswer(
        from_site=hop.from_site,
        to_site=hop.to_site,
        offset=hop.offset,
        distance_angstrom=hop.distance_angstrom,
        multiplicity=hop.multiplicity,
        excluded_because=hop.excluded_because if failed is None else failed.detail,
        prediction=found.outcome if found is not None and isinstance(found.outcome, Prediction) else None,
        cached=found is not None and found.cached,
        warnings=(),
    )
