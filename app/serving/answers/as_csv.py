"""An answer as rows: one a hop of a crystal, or one for a band, flat for spreadsheets and terminals."""

import csv
import io
from collections.abc import Iterator, Mapping
from typing import Any

#: Of a hop or a band, in this order; what does not apply is left empty. Lengths in angstrom, energies in eV.
HOP_COLUMNS = (
    "ion",
    "formula",
    "mechanism",
    "hop",
    "from_site",
    "to_site",
    "offset",
    "distance_angstrom",
    "multiplicity",
    "barrier_ev",
    "low_ev",
    "high_ev",
    "good_conductor",
    "probability",
    "threshold_ev",
    "in_domain",
    "model",
    "excluded_because",
)
#: Of the whole crystal, the same in each of its rows: the barriers at which its hops connect, eV, empty where they
#: never do; and whether hops that were not predicted could make them lower.
PERCOLATION_COLUMNS = ("percolation_1d_ev", "percolation_2d_ev", "percolation_3d_ev", "percolation_upper_bound")
#: Of the whole crystal too: in which share of its fillings they connect, and the same barriers by bond valence.
CONNECTION_COLUMNS = (
    "percolation_1d_share",
    "percolation_2d_share",
    "percolation_3d_share",
    "bond_valence_1d_ev",
    "bond_valence_2d_ev",
    "bond_valence_3d_ev",
)
#: Of a crystal for which it was asked, at room temperature, the interval's ends at its coverage.
CONDUCTIVITY_COLUMNS = (
    "log10_conductivity_s_per_cm",
    "log10_conductivity_low",
    "log10_conductivity_high",
    "probability_above_1e-4_s_per_cm",
    "conductivity_in_domain",
)
#: Why a hop or band is outside of the model's domain, and what was noticed of the whole input.
NOTE_COLUMNS = ("reasons", "warnings")
#: Of a band that was sent with the energies of its images: the barrier that these show, forward and back.
UPLOADED_COLUMNS = ("uploaded_forward_ev", "uploaded_reverse_ev")
#: Which corpora the model leans on for a hop or band, in shares.
LEANING_COLUMNS = ("leans_on",)
#: Of the whole crystal: the figure by which crystals are compared, eV.
RANKING_COLUMNS = ("ranking_ev",)
#: New ones come last: scripts count columns.
COLUMNS = (
    *HOP_COLUMNS,
    *PERCOLATION_COLUMNS,
    *NOTE_COLUMNS,
    *UPLOADED_COLUMNS,
    *CONDUCTIVITY_COLUMNS,
    *CONNECTION_COLUMNS,
    *LEANING_COLUMNS,
    *RANKING_COLUMNS,
)
#: In place of the top of an interval that is null.
UNBOUNDED = "unbounded"


def answer_rows(answer: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """Give one row a hop, numbered from 1 in the answer's order, or one row of a band or of a crystal without hops.

    Args:
        answer: as `answer_to_json` writes it.
    """
    common = {
        "ion": answer["ion"],
        "formula": answer["formula"],
        "model": answer["model"]["name"],
        "warnings": " | ".join(answer["warnings"]),
    }
    if answer.get("hops") is None:
        yield {**common, **_figures(answer), **_uploaded(answer)}
        return
    common |= {"mechanism": answer["mechanism"], **_percolation(answer), **_conductivity(answer)}
    if not answer["hops"]:
        yield common
    for number, hop in enumerate(answer["hops"], start=1):
        yield {
            **common,
            "hop": number,
            "from_site": hop["from_site"],
            "to_site": hop["to_site"],
            "offset": " ".join(str(step) for step in hop["offset"]),
            "distance_angstrom": round(hop["distance_angstrom"], 4),
            "multiplicity": hop["multiplicity"],
            **_figures(hop),
            "excluded_because": hop["excluded_because"] or "",
        }


def answer_to_csv(answer: Mapping[str, Any]) -> bytes:
    """The rows as CSV (RFC 4180) in UTF-8, the columns' names first."""
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, COLUMNS, restval="")
    writer.writeheader()
    writer.writerows(answer_rows(answer))
    return text.getvalue().encode()


def _figures(predicted: Mapping[str, Any]) -> dict[str, Any]:
    if predicted.get("barrier_ev") is None:
        return {}
    good, high = predicted["good_conductor"], predicted["interval_ev"]["high"]
    return {
        "barrier_ev": round(predicted["barrier_ev"], 4),
        "low_ev": round(predicted["interval_ev"]["low"], 4),
        "high_ev": UNBOUNDED if high is None else round(high, 4),
        "good_conductor": "yes" if good["verdict"] else "no",
        "probability": round(good["probability"], 3),
        "threshold_ev": good["threshold_ev"],
        "in_domain": "yes" if predicted["in_domain"]["verdict"] else "no",
        "leans_on": ", ".join(f"{name} {share:g}" for name, share in (predicted.get("leans_on") or {}).items()),
        "reasons": " | ".join(predicted["in_domain"]["reasons"]),
    }


def _uploaded(answer: Mapping[str, Any]) -> dict[str, Any]:
    found = answer.get("uploaded_band") or {}
    own = {name: found.get(f"{name}_ev") for name in ("forward", "reverse")}
    return {f"uploaded_{name}_ev": round(energy, 4) for name, energy in own.items() if energy is not None}


def _percolation(answer: Mapping[str, Any]) -> dict[str, Any]:
    barriers = answer.get("percolation_ev") or {}
    by_bond_valence = (answer.get("bond_valence") or {}).get("percolation_ev") or {}
    row: dict[str, Any] = {
        f"{method}_{name}_ev": round(barrier, 4)
        for method, found in (("percolation", barriers), ("bond_valence", by_bond_valence))
        for name, barrier in found.items()
        if barrier is not None
    }
    for name, path in (answer.get("percolation") or {}).items():
        if path is not None and path.get("percolating_share") is not None:
            row[f"percolation_{name}_share"] = round(path["percolating_share"], 3)
    if answer.get("ranking_ev") is not None:
        row["ranking_ev"] = round(answer["ranking_ev"], 4)
    is_bound = answer.get("percolation_upper_bound")  # not there in answers that were logged long ago
    return row if is_bound is None else {**row, "percolation_upper_bound": "yes" if is_bound else "no"}


def _conductivity(answer: Mapping[str, Any]) -> dict[str, Any]:
    predicted = answer.get("conductivity")
    if predicted is None:
        return {}
    return {
        "log10_conductivity_s_per_cm": round(predicted["log10_conductivity_s_per_cm"], 2),
        "log10_conductivity_low": round(predicted["interval_log10"]["low"], 2),
        "log10_conductivity_high": round(predicted["interval_log10"]["high"], 2),
        "probability_above_1e-4_s_per_cm": round(predicted["probability_above"]["1e-4"], 3),
        "conductivity_in_domain": "yes" if predicted["in_domain"]["verdict"] else "no",
    }
