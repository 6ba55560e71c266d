"""A crystal's conductivity, from what its percolation says."""

from app.crystals.sites.ion_sites import Sublattices
from app.models.predictors.conductivity_predictor import ConductivityPredictor
from app.serving.answers.types import ConductivityAnswer, CrystalAnswer, ModelReference

_MORE_HOPS = (
    "not all of its hops were predicted, and those that were do not connect in three dimensions: ask for more with "
    "`max_hops`, and for many with `Prefer: respond-async`"
)


def with_conductivity(
    answer: CrystalAnswer, lattices: Sublattices, predictor: ConductivityPredictor
) -> ConductivityAnswer:
    """Predict the conductivity of a crystal whose hops were predicted; takes a millisecond.

    A path through hops that the barriers' model does not know takes the conductivity out of the domain as well. Where
    hops that were not predicted may connect what the others do not, the barrier counts as unknown, not as high.
    """
    path = answer.percolation[3]
    is_known = path is not None or not answer.percolation_upper_bound
    bottleneck = [] if path is None else [answer.hops[index].prediction for index in path.bottleneck_hops]
    doubts = dict.fromkeys(
        f"the barrier of its path is uncertain: {reason}"
        for hop in bottleneck
        if hop is not None
        for reason in hop.domain_reasons
    )
    if not is_known:
        doubts[_MORE_HOPS] = None
    return ConductivityAnswer(
        prediction=predictor.predict(lattices, answer.percolation_ev if is_known else None, tuple(doubts)),
        temperature_kelvin=predictor.card.temperature_kelvin,
        model=ModelReference(name=predictor.name, version=predictor.version, digest=predictor.digest),
    )


def other_barriers(predictor: ConductivityPredictor, barriers: ModelReference) -> str | None:
    """A warning where percolation was predicted by another model than the conductivity was fitted with."""
    fitted = predictor.card.barrier_model
    if fitted["digest"] == barriers.digest:
        return None
    return (
        f"The conductivity was fitted on barriers of {fitted['name']} {fitted['digest'][:12]}, and these "
        f"are those of {barriers.name} {barriers.digest[:12]}: it may be off by more than its interval says."
    )
