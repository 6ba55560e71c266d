"""The wire form: answers, problems and stored predictions as JSON values, one shape for replies and log."""

from app.crystals.percolation import PercolationBarriers
from app.errors import IonpathError
from app.models.prediction import INTERVAL_COVERAGE, QUANTILE_LEVELS, Prediction
from app.serving.answers import Answer, CrystalAnswer, HopAnswer, Percolation
from app.storage.rows import PredictionRow

Json = dict[str, object]

#: Far finer than any barrier is known.
QUANTILE_DECIMALS = 4


def answer_to_json(answer: Answer) -> Json:
    """An answer as it is replied and logged; field names carry their unit."""
    body: Json = {
        **_prediction_to_json(answer.prediction, answer.threshold_ev),
        "model": {
            "name": answer.model.name,
            "version": answer.model.version,
            "digest": answer.model.digest,
        },
        "prediction_id": str(answer.prediction_id),
        "created_at": answer.created_at.isoformat(),
        "ion": answer.ion,
        "formula": answer.formula,
        "cached": answer.cached,
        "warnings": list(answer.warnings),
    }
    if answer.crystal is not None:
        body |= _crystal_to_json(answer.crystal, answer.threshold_ev)
    return body


def error_to_json(error: IonpathError) -> Json:
    """A problem as it is logged with a prediction that failed; what does not apply is left out."""
    body = {
        "title": error.title,
        "status": error.status,
        "detail": error.detail,
        "kind": error.kind,
        "where": error.where,
        "expected": error.expected,
    }
    return {name: value for name, value in body.items() if value is not None}


def row_to_json(row: PredictionRow, *, progress: float | None = None) -> Json:
    """A logged prediction: how far it is, then the answer's fields or the problem.

    Args:
        row: as it was logged.
        progress: 0 to 1; 1 for what is done, 0 for the rest where it is not known.
    """
    body: Json = {
        "prediction_id": str(row.id),
        "status": row.status,
        "progress": (1.0 if row.status == "done" else 0.0) if progress is None else progress,
        "created_at": row.created_at.isoformat(),
        "kind": row.kind,
    }
    if row.answer is None:
        body |= {"ion": row.ion, "formula": row.formula, "threshold_ev": row.threshold_ev}
    else:
        body |= row.answer
    if row.error is not None:
        body["error"] = dict(row.error)
    return body


def percolation_of(barriers: PercolationBarriers) -> Percolation:
    """The same three barriers, as an answer holds them."""
    return Percolation(one_d=barriers.one_d, two_d=barriers.two_d, three_d=barriers.three_d)


def _prediction_to_json(prediction: Prediction | None, threshold_ev: float) -> Json:
    if prediction is None:
        return {
            "barrier_ev": None,
            "interval_ev": None,
            "quantiles_ev": None,
            "good_conductor": {"verdict": None, "probability": None, "threshold_ev": threshold_ev},
            "in_domain": None,
        }
    low, high = prediction.interval_ev
    return {
        "barrier_ev": prediction.barrier_ev,
        "interval_ev": {"low": low, "high": high, "coverage": INTERVAL_COVERAGE},
        "quantiles_ev": {
            f"{level:g}": round(value, QUANTILE_DECIMALS)
            for level, value in zip(QUANTILE_LEVELS, prediction.quantiles_ev, strict=True)
        },
        "good_conductor": {
            "verdict": prediction.barrier_ev < threshold_ev,
            "probability": prediction.probability_below(threshold_ev),
            "threshold_ev": threshold_ev,
        },
        "in_domain": {"verdict": prediction.in_domain, "reasons": list(prediction.domain_reasons)},
    }


def _crystal_to_json(crystal: CrystalAnswer, threshold_ev: float) -> Json:
    percolation = crystal.percolation_ev
    return {
        "sites": [
            {"index": site.index, "frac_coords": list(site.frac_coords), "occupancy": site.occupancy}
            for site in crystal.sites
        ],
        "hops": [_hop_to_json(hop, threshold_ev) for hop in crystal.hops],
        "percolation_ev": {"1d": percolation.one_d, "2d": percolation.two_d, "3d": percolation.three_d},
        "truncated": crystal.truncated,
        "mechanism": crystal.mechanism,
    }


def _hop_to_json(hop: HopAnswer, threshold_ev: float) -> Json:
    return {
        "from_site": hop.from_site,
        "to_site": hop.to_site,
        "offset": list(hop.offset),
        "distance_angstrom": hop.distance_angstrom,
        "multiplicity": hop.multiplicity,
        "excluded_because": hop.excluded_because,
        **_prediction_to_json(hop.prediction, threshold_ev),
        "cached": hop.cached,
        "warnings": list(hop.warnings),
        "copies": [list(copy) for copy in hop.copies],
    }
