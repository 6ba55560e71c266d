"""From a band to what a model reads of it, as far as no tensors are needed: a small process can do it."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from app.crystals.band import Band, FloatArray
from app.crystals.surroundings import path_surroundings
from app.errors import InputError
from app.models.cards import Domain
from app.models.domain import reasons_outside
from app.models.features.path import descriptors_in
from app.models.features.surroundings import OUTER_ANGSTROM
from app.models.ion_bonds import SEEN_ANGSTROM, IonBonds, bonds_in
from app.models.reach import ATOM_CUTOFF_ANGSTROM

#: A bond or a pair of bonds costs about as much as four edges of a line graph (measured on a CPU).
COST_OF_BOND = 4


@dataclass(frozen=True, kw_only=True)
class PreparedBand:
    """A band as a model reads it, and what of its chemistry and geometry the model has never seen.

    Attributes:
        inputs: the model's own; opaque elsewhere.
        cost: what a forward pass of this band costs, in edges of a line graph.
        reasons_outside: a sentence for each thing the model has never seen.
    """

    inputs: Any
    cost: int
    reasons_outside: tuple[str, ...]


#: Prepares bands, here or, since it can be pickled, in another process.
Preparation = Callable[[Band], PreparedBand]


@dataclass(frozen=True, kw_only=True)
class HopInputs:
    """What the machines read of a band, before the potential has run.

    Attributes:
        bonds: of the ion.
        path: descriptors, shape [n_path].
    """

    bonds: IonBonds
    path: FloatArray


@dataclass(frozen=True, kw_only=True)
class HopPreparation:
    """Prepares bands for kernel machines that were fitted on a domain."""

    domain: Domain

    def __call__(self, band: Band) -> PreparedBand:
        """Prepares a band of any number of images.

        Raises:
            InputError: no host atom is near the ion's path, so there is no crystal to predict from.
        """
        around = path_surroundings(band, SEEN_ANGSTROM)
        bonds = bonds_in(around)
        if not len(bonds.ion_host):
            raise no_host_near_path(ATOM_CUTOFF_ANGSTROM)
        return PreparedBand(
            inputs=HopInputs(bonds=bonds, path=descriptors_in(around.within(OUTER_ANGSTROM)).values),
            cost=COST_OF_BOND * bonds.cost,
            reasons_outside=reasons_outside(band, bonds.closest_approach_angstrom, self.domain),
        )


def no_host_near_path(within_angstrom: float) -> InputError:
    """The problem of an ion in the void."""
    return InputError(
        f"no host atom lies within {within_angstrom:g} angstrom of the ion's path",
        kind="no-host-near-path",
        expected="a crystal around the ion",
    )
