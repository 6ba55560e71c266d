"""The wire form: answers, problems and stored predictions as JSON values, one shape for replies and log."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from app.crystals.hops.percolation import PercolationBarriers
from app.crystals.path_energies import IMPOSSIBLE_EV, PathEnergies
from app.errors import IonpathError
from app.models.prediction import INTERVAL_COVERAGE, QUANTILE_LEVELS, Prediction
from app.serving.answers.types import (
    Answer,
    ConductivityAnswer,
    CrystalAnswer,
    DisorderAnswer,
    FillingsAnswer,
    HopAnswer,
    PercolationPath,
)
from app.storage.rows import PredictionRow

Json = dict[str, object]

#: Conductivities in S/cm above which a crystal's probability to be is given, by their name in answers.
CONDUCTIVITIES_S_PER_CM = {"1e-5": 1e-5, "1e-4": 1e-4, "1e-3": 1e-3}
#: What a reply on a conductivity alone has of the crystal's answer.
_BESIDE_CONDUCTIVITY = (
    *("ion", "formula", "percolation_ev", "percolation_upper_bound", "prediction_id", "created_at", "cached"),
    "warnings",
)
#: Far finer than any barrier is known.
QUANTILE_DECIMALS = 4
ENERGY_DECIMALS = 6
#: The tops of intervals above this are null: no published barrier is as high, and what an extrapolation says there is
#: no figure.
UNBOUNDED_EV = IMPOSSIBLE_EV
SHARE_DECIMALS = 3


def answer_to_json(answer: Answer) -> Json:
    """An answer as it is replied and logged; field names carry their unit."""
    body: Json = {
        **_prediction_to_json(answer.prediction, answer.threshold_ev),
        "model": {
            "name": answer.model.name,
            "version": answer.model.version,
            "digest": answer.model.digest,
        },
        "other_models": [
            {"name": other.name, "mae_ev": other.mae_ev, "seconds_per_band": other.seconds_per_band}
            for other in answer.other_models
        ],
        "prediction_id": str(answer.prediction_id),
        "created_at": answer.created_at.isoformat(),
        "ion": answer.ion,
        "formula": answer.formula,
        "cached": answer.cached,
        "warnings": list(answer.warnings),
    }
    if answer.uploaded_band is not None:
        body["uploaded_band"] = _path_energies_to_json(answer.uploaded_band)
    if answer.crystal is not None:
        body |= _crystal_to_json(answer.crystal, answer.threshold_ev)
    return body


def _path_energies_to_json(path: PathEnergies) -> Json:
    return {
        "forward_ev": _rounded(path.forward_ev),
        "reverse_ev": _rounded(path.reverse_ev),
        "highest_image": path.highest_image,
        "energies_ev": [_rounded(energy) for energy in path.relative_ev],
    }


def _rounded(energy_ev: float | None) -> float | None:
    """As far as differences of total energies mean anything."""
    return None if energy_ev is None else round(energy_ev, ENERGY_DECIMALS)


def known_top(energy_ev: float) -> float | None:
    """An upper end, None where it is so high that it says nothing: barriers end far below."""
    return None if energy_ev > UNBOUNDED_EV else energy_ev


def conductivity_alone(answer: Mapping[str, Any]) -> Json:
    """The conductivity in a crystal's answer as JSON, and what it rests on, without the hops."""
    beside = {name: answer[name] for name in _BESIDE_CONDUCTIVITY}
    return {**answer["conductivity"], **beside, "barrier_model": answer["model"]}


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
    return row_head(row, progress=progress) | dict(row.answer or {})


def row_head(row: PredictionRow, *, progress: float | None = None) -> Json:
    """The same without the fields of the answer."""
    body: Json = {
        "prediction_id": str(row.id),
        "status": row.status,
        "progress": (1.0 if row.status == "done" else 0.0) if progress is None else progress,
        "created_at": row.created_at.isoformat(),
        "kind": row.kind,
    }
    if row.answer is None:
        body |= {"ion": row.ion, "formula": row.formula, "threshold_ev": row.threshold_ev}
    if row.error is not None:
        body["error"] = dict(row.error)
    return body


def _prediction_to_json(prediction: Prediction | None, threshold_ev: float) -> Json:
    if prediction is None:
        return {
            "barrier_ev": None,
            "interval_ev": None,
            "quantiles_ev": None,
            "good_conductor": {"verdict": None, "probability": None, "threshold_ev": threshold_ev},
            "in_domain": None,
            "leans_on": None,
        }
    low, high = prediction.interval_ev
    return {
        "barrier_ev": prediction.barrier_ev,
        "interval_ev": {"low": low, "high": known_top(high), "coverage": INTERVAL_COVERAGE},
        "quantiles_ev": {
            f"{level:g}": None if known_top(value) is None else round(value, QUANTILE_DECIMALS)
            for level, value in zip(QUANTILE_LEVELS, prediction.quantiles_ev, strict=True)
        },
        "good_conductor": {
            "verdict": prediction.barrier_ev < threshold_ev,
            "probability": prediction.probability_below(threshold_ev),
            "threshold_ev": threshold_ev,
        },
        "in_domain": {"verdict": prediction.in_domain, "reasons": list(prediction.domain_reasons)},
        "leans_on": {name: round(share, SHARE_DECIMALS) for name, share in prediction.leans_on.items()} or None,
    }


def _crystal_to_json(crystal: CrystalAnswer, threshold_ev: float) -> Json:
    body: Json = {
        "sites": [
            {"index": site.index, "frac_coords": list(site.frac_coords), "occupancy": site.occupancy}
            for site in crystal.sites
        ],
        "hops": [_hop_to_json(hop, threshold_ev) for hop in crystal.hops],
        "percolation_ev": _percolation_to_json(crystal.percolation_ev),
        "percolation": {
            f"{dimension}d": _path_to_json(path) | {"percolating_share": crystal.percolating_share(dimension)}
            for dimension, path in crystal.percolation.items()
        },
        "ranking_ev": crystal.ranking_ev,
        "percolation_upper_bound": crystal.percolation_upper_bound,
        "truncated": crystal.truncated,
        "mechanism": crystal.mechanism,
        "disorder": None if crystal.disorder is None else _disorder_to_json(crystal.disorder),
    }
    if crystal.bond_valence is not None:
        body["bond_valence"] = {
            "percolation_ev": _percolation_to_json(crystal.bond_valence.percolation_ev),
            "grid_angstrom": crystal.bond_valence.grid_angstrom,
            "detail": crystal.bond_valence.detail,
        }
    if crystal.conductivity is not None:
        body["conductivity"] = _conductivity_to_json(crystal.conductivity)
    if crystal.second_opinion is not None:
        opinion = crystal.second_opinion
        body["second_opinion"] = {
            "method": opinion.method,
            "percolation_ev": _percolation_to_json(opinion.percolation_ev),
            "answered": opinion.answered,
            "detail": opinion.detail,
            "seconds": round(opinion.seconds, 3),
        }
    return body


def _conductivity_to_json(conductivity: ConductivityAnswer) -> Json:
    prediction = conductivity.prediction
    low, high = prediction.interval
    return {
        "log10_conductivity_s_per_cm": prediction.log10_s_per_cm,
        "interval_log10": {"low": low, "high": high, "coverage": INTERVAL_COVERAGE},
        "probability_above": {
            name: prediction.probability_above(value) for name, value in CONDUCTIVITIES_S_PER_CM.items()
        },
        "temperature_kelvin": conductivity.temperature_kelvin,
        "in_domain": {"verdict": prediction.in_domain, "reasons": list(prediction.domain_reasons)},
        "influences": [vars(influence) for influence in prediction.influences],
        "model": vars(conductivity.model),
    }


def _percolation_to_json(barriers: PercolationBarriers) -> Json:
    return {"1d": barriers.one_d, "2d": barriers.two_d, "3d": barriers.three_d}


def _path_to_json(path: PercolationPath | None) -> Json:
    if path is None:
        return {"barrier_ev": None, "interval_ev": None, "bottleneck_hops": [], "directions": []}
    tail = (1.0 - INTERVAL_COVERAGE) / 2.0
    low, high = np.interp([tail, 1.0 - tail], QUANTILE_LEVELS, path.quantiles_ev)
    return {
        "barrier_ev": path.barrier_ev,
        "interval_ev": {"low": float(low), "high": known_top(float(high)), "coverage": INTERVAL_COVERAGE},
        "bottleneck_hops": list(path.bottleneck_hops),
        "directions": [list(direction) for direction in path.directions],
    }


def _disorder_to_json(disorder: DisorderAnswer) -> Json:
    return {
        "method": disorder.method,
        "oxidation_states": disorder.oxidation_states,
        "lattice_angstrom": [list(row) for row in disorder.lattice_angstrom],
        "mean_percolation_ev": _percolation_to_json(disorder.mean_ev),
        "spread_percolation_ev": _percolation_to_json(disorder.spread_ev),
        "fillings": None if disorder.fillings is None else _fillings_to_json(disorder.fillings),
        "orderings": [
            {
                "species": list(ordering.placed),
                "frac_coords": [list(place) for place in ordering.frac_coords],
                "electrostatic_energy_ev": ordering.energy_ev,
                "percolation_ev": _percolation_to_json(ordering.percolation_ev),
            }
            for ordering in disorder.orderings
        ],
    }


def _fillings_to_json(fillings: FillingsAnswer) -> Json:
    return {
        "count": fillings.count,
        "percolating_share": {f"{dimension}d": share for dimension, share in fillings.shares.items()},
        "mean_percolation_ev": _percolation_to_json(fillings.mean_ev),
        "spread_percolation_ev": _percolation_to_json(fillings.spread_ev),
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
        "ordering_barriers_ev": list(hop.ordering_barriers_ev),
        "copies": [list(copy) for copy in hop.copies],
    }
