"""Descriptors of measured conductors: their hops are predicted once, by the default model, and kept on disk."""

import json
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from pymatgen.core import Composition

from app.crystals.band import Band
from app.crystals.crystal import Crystal
from app.crystals.elements import LAST_COVERED
from app.crystals.hops.percolation import DIMENSIONS, PercolationBarriers
from app.crystals.hops.search import find_hops
from app.crystals.limits import Limits
from app.crystals.sites.ion_sites import split
from app.errors import IonpathError
from app.models.features.conductor import DESCRIPTORS, ConductorDescriptors, conductor_descriptors
from app.models.features.tables import atomic_number
from app.models.prediction import Prediction
from app.models.predictors.predictor import Predictor
from app.serving.answers.bond_valence import bond_valence_answer
from app.serving.answers.crystal import HopOutcome, bands_of, compose
from training import editions
from training.conductivity.measured import Measured, Measurements

#: What is kept of each crystal, by its id.
Kept = dict[str, dict[str, list[float | None]] | None]


def described(
    measurements: Measurements, ion: str, predictor: Predictor, folder: Path, report: Callable[[str], None]
) -> list[ConductorDescriptors]:
    """The descriptors of every row.

    Args:
        measurements: the rows.
        ion: that conducts.
        predictor: of barriers.
        folder: where percolation barriers are kept; a call computes only what is missing.
        report: called with messages on progress.
    """
    digest = editions.short_digest(measurements.sha256, predictor.digest, editions.PERCOLATION)
    path = folder / f"percolation-{digest}.json"
    kept: Kept = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    started, fresh = time.monotonic(), 0
    missing = sum(row.id not in kept for row in measurements.rows)
    for row in measurements.rows:
        if row.id in kept or row.crystal is None:
            continue
        kept[row.id] = _percolation(row.crystal, ion, predictor)
        fresh += 1
        _save(kept, path)
        left = (time.monotonic() - started) / fresh * (missing - fresh)
        report(f"percolation of {fresh} of {missing} crystals, {left / 60:.0f} min left")
    return [_described(row, ion, kept.get(row.id)) for row in measurements.rows]


def _save(kept: Kept, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    pending = path.with_suffix(".pending")
    pending.write_text(json.dumps(kept), encoding="utf-8")
    pending.replace(path)


def _percolation(crystal: Crystal, ion: str, predictor: Predictor) -> dict[str, list[float | None]] | None:
    """How hops percolate in one, two and three dimensions; None for a crystal whose hops are refused.

    Barriers by the model and by bond valence, eV, and the share of the fillings that connect.
    """
    try:
        search = find_hops(crystal, ion, max_atoms=Limits().max_atoms)
        outcomes = {
            key: HopOutcome(outcome=_outcome(predictor, band), cached=False) for key, band in bands_of(search).items()
        }
        answer = compose(search, outcomes, predictor.doubted)
    except IonpathError:
        return None
    by_bond_valence = bond_valence_answer(search.bond_valence_host).percolation_ev
    return {
        "barriers_ev": [answer.percolation_ev.of(dimension) for dimension in DIMENSIONS],
        "bond_valence_ev": [by_bond_valence.of(dimension) for dimension in DIMENSIONS],
        "shares": [answer.percolating_share(dimension) for dimension in DIMENSIONS],
    }


def _outcome(predictor: Predictor, band: Band) -> Prediction | IonpathError:
    try:
        return predictor.predict([predictor.graph(band)])[0]
    except IonpathError as error:
        return error


def _described(row: Measured, ion: str, found: dict[str, list[float | None]] | None) -> ConductorDescriptors:
    if row.crystal is None:
        return _of_composition(row.composition)
    lattices = split(row.crystal, ion)
    if found is None:
        return conductor_descriptors(lattices, None)
    one, two, three = found["barriers_ev"]
    return conductor_descriptors(lattices, PercolationBarriers(one_d=one, two_d=two, three_d=three))


def _of_composition(formula: str) -> ConductorDescriptors:
    """What is known without a crystal."""
    amounts = Composition(formula).get_el_amt_dict()
    fractions = np.zeros(LAST_COVERED)
    for symbol, amount in amounts.items():
        fractions[atomic_number(symbol) - 1] = amount
    return ConductorDescriptors(
        values=np.full(len(DESCRIPTORS), np.nan),
        root_fractions=np.sqrt(fractions / fractions.sum()),
        log_anion_volume=np.nan,
        elements=tuple(sorted(amounts)),
    )
