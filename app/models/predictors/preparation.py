"""The preparation of a band for a model without tensors, so that a process without torch can do it."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from app.crystals.band import Band, FloatArray
from app.crystals.hops.surroundings import PathSurroundings, path_surroundings
from app.errors import InputError, IonpathError
from app.models.cards.card import Domain
from app.models.features.path import PathDescriptors, descriptors_in, descriptors_of
from app.models.features.surroundings import OUTER_ANGSTROM
from app.models.graphs.cutoffs import ATOM_CUTOFF_ANGSTROM
from app.models.graphs.ion_bonds import IonBonds, bonds_in
from app.models.predictors.domain import reasons_outside

#: Measured on a CPU, in batches, in edges of a line graph: what a bond or a pair of bonds of the ion costs, what a bond
#: between host atoms does that is computed, and how many that are looked up cost one edge.
COST_OF_ION_BOND = 7
COST_OF_COMPUTED_BOND = 4
LOOKED_UP_FOR_ONE = 2
#: A crystal with bonds between more pairs of elements is computed (none of the 559 bands has more than 36): each new
#: pair takes as long to tabulate as some thousand bonds take to compute.
MOST_LOOKED_UP_PAIRS = 64


@dataclass(frozen=True, kw_only=True)
class PreparedBand:
    """The inputs of a model for a band, and the reasons why its chemistry or geometry is outside the domain.

    Attributes:
        inputs: of the model; opaque elsewhere.
        cost: of a forward pass of this band, in edges of a line graph.
        reasons_outside: one sentence for each reason to be outside the domain.
    """

    inputs: Any
    cost: int
    reasons_outside: tuple[str, ...]


#: A function that prepares bands; it can be pickled and sent to another process.
Preparation = Callable[[Band], PreparedBand]


@dataclass(frozen=True, kw_only=True)
class HopInputs:
    """The inputs of the machines for a band, before the potential has run.

    Attributes:
        bonds: of the ion, at the five images of the straight line and at the same five of the eased one.
        path, eased: descriptors of both lines, shapes [n_path] and [n_eased].
        looked_up: whether messages between host atoms may be looked up, where there are tables.
    """

    bonds: IonBonds
    path: FloatArray
    eased: FloatArray
    looked_up: bool

    @property
    def computed_cost(self) -> int:
        """The cost of a forward pass without tables, in edges of a line graph."""
        return COST_OF_ION_BOND * self.bonds.ion_count + COST_OF_COMPUTED_BOND * len(self.bonds.host_target)

    @property
    def cost(self) -> int:
        """The cost with tables."""
        if not self.looked_up:
            return self.computed_cost
        return COST_OF_ION_BOND * self.bonds.ion_count + len(self.bonds.host_target) // LOOKED_UP_FOR_ONE


@dataclass(frozen=True, kw_only=True)
class HopPreparation:
    """A preparation of bands for kernel machines with a domain."""

    domain: Domain

    def __call__(self, band: Band) -> PreparedBand:
        """Prepare a band of any number of images.

        Raises:
            InputError: no host atom is near the ion's path, so there is no crystal to predict from.
        """
        return self.prepared(band, hop_inputs(band))

    def prepared(self, band: Band, inputs: HopInputs) -> PreparedBand:
        """A band with its inputs."""
        return PreparedBand(
            inputs=inputs,
            cost=inputs.cost,
            reasons_outside=reasons_outside(band, inputs.bonds.closest_approach_angstrom, self.domain),
        )


def prepared_together(preparation: Preparation, bands: Sequence[Band]) -> list[PreparedBand | IonpathError]:
    """Prepare bands, in less time than each alone where the preparation allows it.

    Returns:
        for each band what `preparation` gives, or the error that it raises.
    """
    if not isinstance(preparation, HopPreparation):
        return [_or_error(partial(preparation, band)) for band in bands]
    around = [path_surroundings(band, OUTER_ANGSTROM) for band in bands]
    return [
        _or_error(partial(_prepared, preparation, *one))
        for one in zip(bands, around, descriptors_of(around), strict=True)
    ]


def _prepared(
    preparation: HopPreparation, band: Band, around: PathSurroundings, described: PathDescriptors
) -> PreparedBand:
    return preparation.prepared(band, _inputs(around, described))


def _or_error(prepare: Callable[[], PreparedBand]) -> PreparedBand | IonpathError:
    try:
        return prepare()
    except IonpathError as error:
        return error


def hop_inputs(band: Band) -> HopInputs:
    """Describe a band of any number of images, without tensors.

    Raises:
        InputError: no host atom is near the ion's path, so there is no crystal to predict from.
    """
    around = path_surroundings(band, OUTER_ANGSTROM)
    return _inputs(around, descriptors_in(around))


def _inputs(around: PathSurroundings, described: PathDescriptors) -> HopInputs:
    around = around.with_images(described.eased_images)
    if not (around.near.path_distance < ATOM_CUTOFF_ANGSTROM).any():
        raise no_host_near_path(ATOM_CUTOFF_ANGSTROM)
    bonds = bonds_in(around)
    return HopInputs(
        bonds=bonds,
        path=described.values,
        eased=described.eased,
        looked_up=bonds.element_pairs <= MOST_LOOKED_UP_PAIRS,
    )


def no_host_near_path(within_angstrom: float) -> InputError:
    """The error for a band without host atoms near the path."""
    return InputError(
        f"no host atom lies within {within_angstrom:g} angstrom of the ion's path",
        kind="no-host-near-path",
        expected="a crystal around the ion",
    )
