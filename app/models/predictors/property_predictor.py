"""The predictor of a loaded checkpoint of bulk properties."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from pymatgen.core import Element

from app.crystals.crystal import Crystal, Site
from app.models.cards.property_card import PropertyCard
from app.models.graphs.crystal_graphs import crystal_graph
from app.models.graphs.shells import AtomGraph, GraphSpec, collate
from app.models.networks.multi_property import MultiProperty
from app.models.predictors.parallel_passes import Lanes
from app.models.predictors.predictor import out_of_memory_raised


@dataclass(frozen=True, kw_only=True)
class PropertyAnswer:
    """Bulk properties of one crystal.

    Attributes:
        values: by name, in the units of the card.
        unknown_elements: elements of the crystal that no fitted crystal contained.
        lone_atoms: number of atoms without a neighbour within the model's reach, which are predicted from their
            element alone.
    """

    values: dict[str, float]
    unknown_elements: tuple[str, ...]
    lone_atoms: int


class PropertyPredictor:
    """A predictor with one checkpoint of bulk properties on one device.

    Args:
        card, network: as `read_property_checkpoint` returns them.
        device: where the network runs.
        lanes: run passes on a CPU, shared with other models; None runs them in the caller's thread.
    """

    def __init__(
        self, card: PropertyCard, network: MultiProperty, *, device: torch.device, lanes: Lanes | None = None
    ) -> None:
        self.card = card
        self.name = card.name
        self.version = card.version
        self.digest = card.digest
        self._network = network.to(device)
        self._device = device
        self._lanes = lanes
        self._spec = GraphSpec(**card.graph)

    def graph(self, crystal: Crystal) -> AtomGraph:
        """The graph of an ordered crystal.

        Raises:
            ValueError: a site holds more than one element or is partly empty.
        """
        if not crystal.is_ordered:
            raise ValueError("only an ordered crystal has one graph")
        numbers = np.array([Element(site.species[0][0]).Z for site in crystal.sites], dtype=np.int64)
        coords = np.array([site.frac_coords for site in crystal.sites], dtype=np.float64)
        return crystal_graph(crystal.lattice_angstrom, numbers, coords, self._spec)

    def warm_up(self) -> None:
        """Run a small crystal, so that the first request does not wait for the network's libraries to load."""
        sites = (Site(species=(("Mg", 1.0),), frac_coords=(0.0, 0.0, 0.0)),)
        self.predict([self.graph(Crystal(lattice_angstrom=np.eye(3) * 3.0, sites=sites))])

    def predict(self, graphs: Sequence[AtomGraph]) -> list[PropertyAnswer]:
        """The properties of some crystals; the answer for a crystal does not depend on the others.

        Raises:
            OutOfMemoryError: the device has too little memory for so many at once.
        """
        (outputs,) = [self._outputs(graphs)] if self._lanes is None else self._lanes.map(self._outputs, [graphs])
        values = [scale.from_output(column) for scale, column in zip(self.card.properties, outputs.T, strict=True)]
        return [
            PropertyAnswer(
                values={
                    scale.name: float(column[row]) for scale, column in zip(self.card.properties, values, strict=True)
                },
                unknown_elements=self._unknown(graph),
                lone_atoms=len(graph.atomic_numbers) - len(torch.unique(graph.edge_target)),
            )
            for row, graph in enumerate(graphs)
        ]

    def _outputs(self, graphs: Sequence[AtomGraph]) -> np.ndarray:
        with torch.inference_mode(), out_of_memory_raised():
            return np.asarray(self._network(collate(graphs).to(self._device)).double().cpu().numpy())

    def _unknown(self, graph: AtomGraph) -> tuple[str, ...]:
        symbols = {Element.from_Z(int(number)).symbol for number in torch.unique(graph.atomic_numbers)}
        return tuple(sorted(symbols - set(self.card.elements)))
