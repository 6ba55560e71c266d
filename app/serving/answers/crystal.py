"""Composes a crystal's answer from the predictions of its hops."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from app.crystals.band import Band, FloatArray
from app.crystals.crystal import FULL_OCCUPANCY_TOLERANCE
from app.crystals.hops.percolation import HopEdge, PercolationBarriers, percolation
from app.crystals.hops.search import Disorder, Hop, HopSearch
from app.crystals.sites.ion_sites import is_mixed
from app.errors import IonpathError, NotReadyError
from app.models.prediction import QUANTILE_LEVELS, Prediction
from app.serving.answers.percolation_interval import percolating
from app.serving.answers.types import (
    CrystalAnswer,
    DisorderAnswer,
    HopAnswer,
    OrderingAnswer,
    SecondOpinion,
    SiteAnswer,
)

#: Which hop, and in which ordering of the host.
BandKey = tuple[int, int]
#: Percolation by the model and by another method that differ by more than this are reported.
DISAGREEMENT_EV = 0.5
#: Takes a prediction out of a model's domain for a stated reason (`Predictor.doubted`).
Doubted = Callable[[Prediction, str], Prediction]


@dataclass(frozen=True, kw_only=True)
class HopOutcome:
    """What became of one hop's band."""

    outcome: Prediction | IonpathError
    cached: bool


def bands_of(search: HopSearch) -> dict[BandKey, Band]:
    """Every band that is predicted of a crystal."""
    return {
        (index, which): band
        for index, hop in enumerate(search.hops)
        for which, band in enumerate(hop.bands)
        if band is not None
    }


def compose(search: HopSearch, outcomes: Mapping[BandKey, HopOutcome], doubted: Doubted) -> CrystalAnswer:
    """Put a crystal's answer together; takes up to a second, most of it for the intervals.

    Args:
        search: the crystal's hops.
        outcomes: by the hop's index in the search and the ordering's; a hop without a band has none.
        doubted: widens the prediction of a hop that the search knows to be unlike any fitted one.

    Raises:
        IonpathError: the first one met, where not a single hop could be predicted.
    """
    errors = [found.outcome for found in outcomes.values() if isinstance(found.outcome, IonpathError)]
    for error in errors:
        if isinstance(error, NotReadyError) or len(errors) == len(outcomes):
            raise error
    if doubts := _doubts(search):
        outcomes = {key: _with_doubt(found, doubts.get(key[0]), doubted) for key, found in outcomes.items()}
    hops = tuple(
        _hop(hop, [outcomes.get((index, which)) for which in range(len(hop.bands))])
        for index, hop in enumerate(search.hops)
    )
    disorder = None if search.disorder is None else _disorder(search, search.disorder, hops)
    found = percolating(
        search.all_hops,
        [hop.prediction for hop in hops],
        None if search.disorder is None else search.disorder.fillings,
        [_open_share(hop) for hop in hops],
    )
    if disorder is not None:
        disorder = replace(disorder, fillings=found.fillings)
    return CrystalAnswer(
        sites=tuple(
            SiteAnswer(index=site.index, frac_coords=site.frac_coords, occupancy=site.occupancy)
            for site in search.sites
        ),
        hops=hops,
        percolation={
            dimension: None if disorder is not None and _none_connects(disorder, dimension) else path
            for dimension, path in found.paths.items()
        },
        truncated=search.truncated,
        percolation_upper_bound=search.truncated or bool(errors) or any(hop.left_out for hop in search.hops),
        mechanism=search.mechanism,
        disorder=disorder,
        host_is_mixed=_host_is_mixed(search),
    )


def _host_is_mixed(search: HopSearch) -> bool:
    """Host atoms on the ion's sites count where these stay partly empty, those that the ion was offered among them."""
    shared = [site for site in search.lattices.sites if site.shared_with]
    filled = [site.occupancy + sum(amount for _, amount in site.shared_with) for site in shared]
    partly = any(share < 1.0 - FULL_OCCUPANCY_TOLERANCE for share in filled)
    return partly or any(map(is_mixed, search.lattices.host_contents))


def _open_share(hop: HopAnswer) -> float:
    """In how many of the orderings there is room for a hop, 0 to 1."""
    barriers = hop.ordering_barriers_ev
    return sum(one is not None for one in barriers) / len(barriers) if barriers else 1.0


def _none_connects(disorder: DisorderAnswer, dimension: int) -> bool:
    return all(one.percolation_ev.of(dimension) is None for one in disorder.orderings)


def _doubts(search: HopSearch) -> dict[int, str]:
    """Why a hop is unlike the fitted ones, by its index: those end on relaxed sites, among atoms that have room."""
    kinds = {site.index: bool(site.shared_with) for site in search.sites if site.is_interstitial}
    doubts = {index: hop.doubt for index, hop in enumerate(search.hops) if hop.doubt}
    for index, hop in enumerate(search.hops):
        if ends := [kinds[site] for site in (hop.from_site, hop.to_site) if site in kinds]:
            found = f"{_ENDS[tuple(sorted(ends))]}, and no fitted hop ends where the ion was not relaxed"
            doubts[index] = f"{doubts[index]}; {found}" if index in doubts else found
    return doubts


#: By which ends of a hop are found: False at an interstitial site, True in an empty share of the host's.
_ENDS = {
    (False,): "an end of the hop is an interstitial site found by geometry",
    (True,): "an end of the hop is in the empty share of a site of the host",
    (False, False): "both ends of the hop are interstitial sites found by geometry",
    (True, True): "both ends of the hop are in empty shares of the host's sites",
    (
        False,
        True,
    ): "the ends of the hop are an interstitial site found by geometry and the empty share of a host's site",
}


def _with_doubt(found: HopOutcome, reason: str | None, doubted: Doubted) -> HopOutcome:
    if reason is None or isinstance(found.outcome, IonpathError):
        return found
    return replace(found, outcome=doubted(found.outcome, reason))


def percolating_prediction(crystal: CrystalAnswer) -> Prediction | None:
    """The lowest percolation barrier with its distribution; None where nothing percolates.

    Whether it lies within what the model was fitted on is said by the hops that are its bottleneck.
    """
    path = crystal.percolation[1]
    if path is None:
        return None
    of_hops = [crystal.hops[index].prediction for index in path.bottleneck_hops]
    bottleneck = [one for one in of_hops if one is not None]
    reasons = dict.fromkeys(reason for one in bottleneck for reason in one.domain_reasons)
    return Prediction(
        barrier_ev=path.barrier_ev,
        quantiles_ev=path.quantiles_ev,
        in_domain=not reasons and all(one.in_domain for one in bottleneck),
        domain_reasons=tuple(reasons),
        leans_on=Prediction.mean_leaning(bottleneck),
    )


def with_copies(crystal: CrystalAnswer, edges: Sequence[HopEdge]) -> CrystalAnswer:
    """Add to each hop of an answer the undirected hops of the uploaded cell that symmetry makes equal to it.

    Args:
        crystal: the answer.
        edges: every undirected hop of the uploaded cell; `orbit` is the index in the answer's hops, or past its end.
    """
    copies: list[list[tuple[int, int, int, int, int]]] = [[] for _ in crystal.hops]
    for edge in edges:
        if edge.orbit < len(copies):
            copies[edge.orbit].append((edge.from_site, edge.to_site, *edge.offset))
    hops = (replace(hop, copies=tuple(own)) for hop, own in zip(crystal.hops, copies, strict=True))
    return replace(crystal, hops=tuple(hops))


def all_cached(crystal: CrystalAnswer) -> bool:
    """Whether there was something to predict and all of it came from the cache."""
    predicted = [hop.cached for hop in crystal.hops if hop.prediction is not None]
    return bool(predicted) and all(predicted)


def disagreements(crystal: CrystalAnswer, opinion: SecondOpinion) -> tuple[str, ...]:
    """Say where a second opinion is another one."""
    if not opinion.answered:
        return (f"There is no second opinion: {opinion.detail}.",)
    ours, theirs = _figures(crystal.percolation_ev), _figures(opinion.percolation_ev)
    apart = [
        f"in {name} {_shown(our)} against {_shown(their)}"
        for name, our, their in zip(("1d", "2d", "3d"), ours, theirs, strict=True)
        if ((our is None) != (their is None))
        or (our is not None and their is not None and abs(our - their) > DISAGREEMENT_EV)
    ]
    if not apart:
        return ()
    sentence = (
        f"The model and bond valence site energies disagree by more than {DISAGREEMENT_EV:g} eV on where the ion "
        f"percolates: {', '.join(apart)}."
    )
    return (sentence,)


def unconnected(crystal: CrystalAnswer) -> tuple[str, ...]:
    """Explain a crystal's missing barrier: which hops are excluded and why, or that there are none that connect."""
    if crystal.percolation[1] is not None or not crystal.hops:
        return ()
    excluded = {number: hop for number, hop in enumerate(crystal.hops, 1) if hop.excluded_because}
    if not excluded and 0.0 < crystal.percolating_share(1) < 1.0:
        share = crystal.percolating_share(1)
        return (f"There is no barrier: the hops connect in {share:.0%} of the fillings of the sites, less than half.",)
    if not excluded and crystal.disorder is not None and (fillings := crystal.disorder.fillings) is not None:
        sentence = (
            f"There is no barrier: in none of {fillings.count} sampled fillings of the sites do the hops connect a "
            "site to its own periodic copies; where another atom sits, a site is closed."
        )
        return (sentence,)
    if not excluded and crystal.truncated:
        sentence = (
            "There is no barrier: the hops that were predicted do not connect a site to its own periodic copies, and "
            "not all hops were predicted."
        )
        return (sentence,)
    if not excluded:
        return ("There is no barrier: the hops do not connect a site to its own periodic copies.",)
    number, first = next(iter(excluded.items()))
    count, total = len(excluded), len(crystal.hops)
    which = (
        f"{'both' if total == 2 else f'all {total}' if total > 1 else 'the only'} hop{'s' if total > 1 else ''}"  # noqa: PLR2004
        if count == total
        else f"{count} of {total} hops"
    )
    rest = "" if count == total else ", and the others do not connect a site to its own periodic copies"
    reason = f"hop {number} since {first.excluded_because}"
    return (f"There is no barrier: {which} {'is' if count == 1 else 'are'} excluded ({reason}){rest}.",)


def _figures(barriers: PercolationBarriers) -> tuple[float | None, float | None, float | None]:
    return barriers.one_d, barriers.two_d, barriers.three_d


def _shown(barrier_ev: float | None) -> str:
    return "never" if barrier_ev is None else f"{barrier_ev:.2f} eV"


def _hop(hop: Hop, found: Sequence[HopOutcome | None]) -> HopAnswer:
    outcomes = [None if one is None else one.outcome for one in found]
    predictions = [one if isinstance(one, Prediction) else None for one in outcomes]
    failed = next((one for one in outcomes if isinstance(one, IonpathError)), None)
    mean = _mean([one for one in predictions if one is not None])
    return HopAnswer(
        from_site=hop.from_site,
        to_site=hop.to_site,
        offset=hop.offset,
        distance_angstrom=hop.distance_angstrom,
        multiplicity=hop.multiplicity,
        excluded_because=failed.detail if failed is not None and mean is None else hop.excluded_because,
        prediction=mean,
        cached=mean is not None and all(one.cached for one in found if one is not None),
        warnings=(),
        ordering_barriers_ev=tuple(None if one is None else one.barrier_ev for one in predictions)
        if len(predictions) > 1
        else (),
    )


def _mean(predictions: Sequence[Prediction]) -> Prediction | None:
    """The mean barrier of a hop in several orderings, and the even mixture of their distributions."""
    if len(predictions) <= 1:
        return predictions[0] if predictions else None
    reasons = dict.fromkeys(reason for one in predictions for reason in one.domain_reasons)
    return Prediction(
        barrier_ev=float(np.mean([one.barrier_ev for one in predictions])),
        quantiles_ev=_mixture([one.quantiles_ev for one in predictions]),
        in_domain=all(one.in_domain for one in predictions),
        domain_reasons=tuple(reasons),
        leans_on=Prediction.mean_leaning(predictions),
    )


def _mixture(quantiles: Sequence[Sequence[float]]) -> tuple[float, ...]:
    """Quantiles of an even mixture, each part linear between its own, with a step where several of them are equal."""
    grid = np.unique(np.concatenate([np.asarray(one) for one in quantiles]))
    below = np.mean([_shares(np.asarray(one), grid) for one in quantiles], axis=0)
    return tuple(float(value) for value in np.interp(QUANTILE_LEVELS, below.ravel(), grid.repeat(2)))


def _shares(quantiles: FloatArray, grid: FloatArray) -> FloatArray:
    """The share of a distribution below each value, and that up to it, shape [n, 2].

    They differ where quantiles are equal, as those of a low barrier are at zero: of equal abscissae interp takes the
    last.
    """
    levels = np.asarray(QUANTILE_LEVELS)
    up_to = np.interp(grid, quantiles, levels, left=0.0, right=1.0)
    below = 1.0 - np.interp(-grid, -quantiles[::-1], 1.0 - levels[::-1], left=0.0, right=1.0)
    return np.column_stack([below, up_to])


def _disorder(search: HopSearch, disorder: Disorder, hops: Sequence[HopAnswer]) -> DisorderAnswer:
    count = len(disorder.orderings)
    barriers = [[_barrier_ev(hop, which if count > 1 else None) for hop in hops] for which in range(count)]
    percolations = [percolation(search.all_hops, one) for one in barriers]
    rows = [_figures(one) for one in percolations]
    means, spreads = [], []
    for column in zip(*rows, strict=True):
        known = [value for value in column if value is not None]
        whole = len(known) == count
        means.append(float(np.mean(known)) if whole else None)
        spreads.append(float(np.std(known)) if whole else None)
    return DisorderAnswer(
        method=disorder.method,
        oxidation_states=disorder.states,
        lattice_angstrom=_vectors(disorder.lattice_angstrom),
        orderings=tuple(
            OrderingAnswer(
                placed=ordering.atoms[0],
                frac_coords=_vectors(ordering.atoms[1]),
                energy_ev=ordering.energy_ev,
                percolation_ev=percolations[which],
            )
            for which, ordering in enumerate(disorder.orderings)
        ),
        mean_ev=PercolationBarriers(one_d=means[0], two_d=means[1], three_d=means[2]),
        spread_ev=PercolationBarriers(one_d=spreads[0], two_d=spreads[1], three_d=spreads[2]),
    )


def _barrier_ev(hop: HopAnswer, ordering: int | None) -> float | None:
    """A hop's barrier in one ordering; None where there is no room for it."""
    if hop.prediction is None or ordering is None:
        return None if hop.prediction is None else hop.prediction.barrier_ev
    return hop.ordering_barriers_ev[ordering]


def _vectors(rows: np.ndarray) -> tuple[tuple[float, float, float], ...]:
    return tuple((round(float(x), 6), round(float(y), 6), round(float(z), 6)) for x, y, z in rows)
