"""The tables' columns, and a crystal's answer as rows of them."""

from collections.abc import Mapping, Sequence
from typing import Any

import orjson
import pyarrow as pa

from app.crystals.crystal import Crystal
from app.errors import IonpathError
from app.models.prediction import Prediction
from app.screening.reading import FoundHops
from app.serving.answers.crystal import percolating_prediction
from app.serving.answers.types import CrystalAnswer, HopAnswer, PercolationPath

#: Far finer than any barrier is known: what differs beyond are the batches that a crystal was predicted in.
_DECIMALS = 6
#: The conductivity, S/cm, whose chance is given, and the name of its column, as in the CSVs of `ionpath predict`.
CONDUCTIVITY_S_PER_CM, CHANCE_COLUMN = 1e-4, "probability_above_1e-4_s_per_cm"
_TEXT, _WHOLE, _NUMBER, _FLAG = pa.string(), pa.int32(), pa.float64(), pa.bool_()
_TEXTS, _WHOLES, _PLACE = pa.list_(_TEXT), pa.list_(_WHOLE), pa.list_(_NUMBER)

#: What rows of all tables begin with: `id` is `input`, and `#block` of a CIF with several structures.
_KEY = [("id", _TEXT), ("input", _TEXT), ("ion", _TEXT)]

CRYSTALS = pa.schema(
    [
        *_KEY,
        ("formula", _TEXT),
        ("atoms", _WHOLE),
        ("space_group", _WHOLE),
        ("mechanism", _TEXT),
        *[
            column
            for name in ("1d", "2d", "3d")
            for column in (
                (f"percolation_{name}_ev", _NUMBER),
                (f"percolation_{name}_low_ev", _NUMBER),
                (f"percolation_{name}_high_ev", _NUMBER),
                (f"probability_{name}", _NUMBER),
                (f"in_domain_{name}", _FLAG),
                (f"percolating_share_{name}", _NUMBER),
                (f"directions_{name}", pa.list_(_WHOLES)),
                (f"bottleneck_hops_{name}", _WHOLES),
            )
        ],
        *[(f"bond_valence_{name}_ev", _NUMBER) for name in ("1d", "2d", "3d")],
        ("ranking_ev", _NUMBER),
        ("probability", _NUMBER),
        ("in_domain", _FLAG),
        ("reasons", _TEXTS),
        ("hops", _WHOLE),
        ("hops_predicted", _WHOLE),
        ("truncated", _FLAG),
        ("percolation_upper_bound", _FLAG),
        ("log10_conductivity_s_per_cm", _NUMBER),
        ("log10_conductivity_low", _NUMBER),
        ("log10_conductivity_high", _NUMBER),
        (CHANCE_COLUMN, _NUMBER),
        ("conductivity_in_domain", _FLAG),
        ("conductivity_reasons", _TEXTS),
        ("orderings", _WHOLE),
        ("warnings", _TEXTS),
        ("seconds", _NUMBER),
        ("model", _TEXT),
        ("model_digest", _TEXT),
        ("structure", _TEXT),
    ]
)
HOPS = pa.schema(
    [
        *_KEY,
        ("hop", _WHOLE),
        ("from_site", _WHOLE),
        ("to_site", _WHOLE),
        ("offset", _WHOLES),
        ("from_frac_coords", _PLACE),
        ("to_frac_coords", _PLACE),
        ("distance_angstrom", _NUMBER),
        ("multiplicity", _WHOLE),
        ("barrier_ev", _NUMBER),
        ("low_ev", _NUMBER),
        ("high_ev", _NUMBER),
        ("probability", _NUMBER),
        ("in_domain", _FLAG),
        ("reasons", _TEXTS),
        ("excluded_because", _TEXT),
    ]
)
FAILURES = pa.schema([*_KEY, ("kind", _TEXT), ("words", _TEXT), ("expected", _TEXT), ("seconds", _NUMBER)])
SCHEMAS: Mapping[str, pa.Schema] = {"crystals": CRYSTALS, "hops": HOPS, "failures": FAILURES}

Row = dict[str, Any]


def crystal_row(
    key: Row,
    found: FoundHops,
    answer: CrystalAnswer,
    *,
    threshold_ev: float,
    seconds: float,
    model: str,
    model_digest: str,
    warnings: Sequence[str] = (),
) -> Row:
    """A crystal and ion as a row of CRYSTALS.

    Args:
        key: id, input and ion.
        found: the crystal and its hops.
        answer: of its hops, with bond valence, and the conductivity where the ion has one.
        threshold_ev: a probability is that of a percolation barrier below it; without dimension, of the lowest one.
        seconds: CPU time that it took.
        model: the checkpoint's name.
        model_digest: the checkpoint's digest.
        warnings: beside those of the hops.
    """
    best = percolating_prediction(answer)
    assert answer.bond_valence is not None
    row = {
        **key,
        "formula": found.crystal.formula,
        "atoms": len(found.crystal.sites),
        "space_group": found.space_group,
        "mechanism": answer.mechanism,
        "probability": None if best is None else round(best.probability_below(threshold_ev), _DECIMALS),
        "in_domain": None if best is None else best.in_domain,
        "reasons": [] if best is None else list(best.domain_reasons),
        "hops": len(answer.hops),
        "hops_predicted": sum(hop.prediction is not None for hop in answer.hops),
        "truncated": answer.truncated,
        "ranking_ev": _rounded(answer.ranking_ev),
        "percolation_upper_bound": answer.percolation_upper_bound,
        "orderings": 1 if answer.disorder is None else len(answer.disorder.orderings),
        "warnings": [*found.search.warnings, *warnings],
        "seconds": round(seconds, 4),
        "model": model,
        "model_digest": model_digest,
        "structure": structure_json(found.crystal),
    }
    row |= _conductivity(answer)
    bond_valence = answer.bond_valence.percolation_ev
    for dimension, path in answer.percolation.items():
        row |= _path(f"{dimension}d", path, answer.hops, threshold_ev)
        row[f"bond_valence_{dimension}d_ev"] = _rounded(bond_valence.of(dimension))
        row[f"percolating_share_{dimension}d"] = round(answer.percolating_share(dimension), _DECIMALS)
    return row


def hop_rows(key: Row, answer: CrystalAnswer, *, threshold_ev: float) -> list[Row]:
    """Its hops as rows of HOPS, numbered from 1 as `ionpath predict --csv` does."""
    places = {site.index: site.frac_coords for site in answer.sites}
    return [{**key, **_hop(number, hop, places, threshold_ev)} for number, hop in enumerate(answer.hops, start=1)]


def failure_row(key: Row, error: IonpathError, *, seconds: float = 0.0) -> Row:
    """A crystal and ion that has no answer, as a row of FAILURES; `ion` is null where none of the ions has one."""
    return {**key, "kind": error.kind, "words": error.detail, "expected": error.expected, "seconds": round(seconds, 4)}


def table_of(name: str, rows: Sequence[Row]) -> pa.Table:
    """Rows as a table of one of SCHEMAS."""
    return pa.Table.from_pylist(list(rows), schema=SCHEMAS[name])


def structure_json(crystal: Crystal) -> str:
    """A crystal as JSON: what `structure_of` reads."""
    record = {
        "lattice_angstrom": crystal.lattice_angstrom.round(8).tolist(),
        "species": [dict(site.species) for site in crystal.sites],
        "frac_coords": [[round(value, 8) for value in site.frac_coords] for site in crystal.sites],
    }
    return orjson.dumps(record).decode()


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, _DECIMALS)


def _conductivity(answer: CrystalAnswer) -> Row:
    if answer.conductivity is None:
        return {"conductivity_reasons": []}
    prediction = answer.conductivity.prediction
    low, high = prediction.interval
    return {
        "log10_conductivity_s_per_cm": round(prediction.log10_s_per_cm, _DECIMALS),
        "log10_conductivity_low": round(low, _DECIMALS),
        "log10_conductivity_high": round(high, _DECIMALS),
        CHANCE_COLUMN: round(prediction.probability_above(CONDUCTIVITY_S_PER_CM), _DECIMALS),
        "conductivity_in_domain": prediction.in_domain,
        "conductivity_reasons": list(prediction.domain_reasons),
    }


def _path(name: str, path: PercolationPath | None, hops: Sequence[HopAnswer], threshold_ev: float) -> Row:
    if path is None:
        return {f"directions_{name}": [], f"bottleneck_hops_{name}": []}
    bottleneck = [one for index in path.bottleneck_hops if (one := hops[index].prediction) is not None]
    figures = _figures(
        Prediction(
            barrier_ev=path.barrier_ev,
            quantiles_ev=path.quantiles_ev,
            in_domain=all(one.in_domain for one in bottleneck),
            domain_reasons=(),
        ),
        threshold_ev,
    )
    return {
        f"percolation_{name}_ev": figures["barrier_ev"],
        f"percolation_{name}_low_ev": figures["low_ev"],
        f"percolation_{name}_high_ev": figures["high_ev"],
        f"probability_{name}": figures["probability"],
        f"in_domain_{name}": figures["in_domain"],
        f"directions_{name}": [list(direction) for direction in path.directions],
        f"bottleneck_hops_{name}": [index + 1 for index in path.bottleneck_hops],
    }


def _hop(number: int, hop: HopAnswer, places: Mapping[int, tuple[float, float, float]], threshold_ev: float) -> Row:
    end = [place + step for place, step in zip(places[hop.to_site], hop.offset, strict=True)]
    return {
        "hop": number,
        "from_site": hop.from_site,
        "to_site": hop.to_site,
        "offset": list(hop.offset),
        "from_frac_coords": [round(value, _DECIMALS) for value in places[hop.from_site]],
        "to_frac_coords": [round(value, _DECIMALS) for value in end],
        "distance_angstrom": round(hop.distance_angstrom, _DECIMALS),
        "multiplicity": hop.multiplicity,
        "excluded_because": hop.excluded_because,
        **_figures(hop.prediction, threshold_ev),
    }


def _figures(prediction: Prediction | None, threshold_ev: float) -> Row:
    if prediction is None:
        return {"reasons": []}
    low, high = prediction.interval_ev
    return {
        "barrier_ev": round(prediction.barrier_ev, _DECIMALS),
        "low_ev": round(low, _DECIMALS),
        "high_ev": round(high, _DECIMALS),
        "probability": round(prediction.probability_below(threshold_ev), _DECIMALS),
        "in_domain": prediction.in_domain,
        "reasons": list(prediction.domain_reasons),
    }
