"""The migrating ion's features after one and two layers of a potential, computed from its neighbourhood alone."""

from typing import Any

import torch
from torch import nn

from app.models.graphs.ion_graphs import IonGraph
from app.models.networks.chgnet import FEATURES, Chgnet
from app.models.networks.message_tables import MessageTables

#: On a CPU the features of this many bonds stay in a core's cache through all operations.
_BONDS_IN_CACHE = 1024
#: Messages along shorter bonds of the ion are computed, also where there are tables.
COMPUTED_ANGSTROM = 3.0
#: On a GPU this many take about two gibibytes during the computation.
_BONDS_ON_GPU = 1 << 19


class IonEnvironment(nn.Module):
    """Two layers of CHGNet, at the ion.

    The same features as those of the whole potential in a cell large enough that the ion's copies do not reach it. Two
    layers reach twelve angstrom. The messages between host atoms in the first layer do not depend on the ion's
    position, so they are computed once for all images.

    Args:
        potential: its weights are shared, not copied.
        tables: of the same weights, to look up messages between host atoms; None computes them.
    """

    def __init__(self, potential: Chgnet, tables: MessageTables | None = None) -> None:
        super().__init__()
        self.potential = potential
        self.tables = tables

    def forward(self, graph: IonGraph) -> tuple[torch.Tensor, torch.Tensor]:
        """The ion's features after the first and the second layer, each of shape [n_images, 64]."""
        net = self.potential
        host, ion = net.elements(graph.host_numbers - 1), net.elements(graph.ion_numbers - 1)
        radial = net.atom_radial(graph.ion_vector.norm(dim=1))
        bonds, weights = net.bond_embedding(radial), net.atom_weights(radial)

        layer: Any = net.atom_layers[0]  # the type of modules in a list is lost
        host_total = None if self.tables is None else self.tables.totals(graph)
        looked_up = None if self.tables is None or host_total is None else self.tables.of_ion(graph)
        if host_total is None:
            host_total = self._between_hosts(graph)
        image, neighbour = graph.ion_image, graph.ion_host
        to_host, to_ion = self._of_ion(graph, looked_up, ion=ion, host=host, bonds=bonds, weights=weights)
        # One copy of a host atom for every image that it is bonded to.
        host = _rows(host, neighbour) + layer.out(_rows(host_total, neighbour) + to_host)
        ion = first = ion + layer.out(torch.zeros_like(ion).index_add(0, image, to_ion))

        bonds = self._updated(graph, ion=ion, host=host, bonds=bonds)
        layer = net.atom_layers[1]
        own, bond, other = layer.gated.first
        message = layer.gated(_rows(own(ion), image) + bond(bonds) + other(host)) * weights
        second = ion + layer.out(torch.zeros_like(ion).index_add(0, image, message))
        return first, second

    def _between_hosts(self, graph: IonGraph) -> torch.Tensor:
        """The sum of the messages from its bonds to every host atom, shape [n_host, 64].

        Nine tenths of the cost if it is not looked up. A message depends on two elements and a length: the part of the
        first layer that depends on the elements is tabulated, the part that depends on the length is one product.
        """
        net = self.potential
        layer: Any = net.atom_layers[0]
        own, bond, other = layer.gated.first
        numbers, places = torch.unique(torch.cat([graph.host_numbers, graph.source_numbers]), return_inverse=True)
        target, source = places[: len(graph.host_numbers)], places[len(graph.host_numbers) :]
        elements = net.elements(numbers - 1)
        of_elements = (own(elements)[:, None] + other(elements)).flatten(end_dim=1)
        of_length = (bond.weight @ net.bond_embedding.weight).T
        total = torch.zeros(len(target), FEATURES, device=elements.device)
        at_once = _BONDS_IN_CACHE if total.device.type == "cpu" else _BONDS_ON_GPU
        for start in range(0, len(graph.host_target), at_once):
            bonds = slice(start, start + at_once)
            to, by = graph.host_target[bonds], graph.host_source[bonds]
            radial = net.atom_radial(graph.host_vector[bonds].norm(dim=1))
            pairs = _rows(target, to) * len(numbers) + _rows(source, by)
            joined = torch.addmm(_rows(of_elements, pairs), radial, of_length)
            total.index_add_(0, to, layer.gated(joined) * net.atom_weights(radial))
        return total

    def _of_ion(
        self,
        graph: IonGraph,
        looked_up: tuple[torch.Tensor, torch.Tensor] | None,
        *,
        ion: torch.Tensor,
        host: torch.Tensor,
        bonds: torch.Tensor,
        weights: torch.Tensor,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """The messages along the ion's bonds to the host atoms and to the ion, each of shape [n_ion_bonds, 64].

        Those of short bonds are computed in any case: they are few, and in them rounding counts most.
        """
        layer: Any = self.potential.atom_layers[0]
        own, bond, other = layer.gated.first
        image, neighbour = graph.ion_image, graph.ion_host
        if looked_up is not None:
            short = (graph.ion_vector.square().sum(dim=1) < COMPUTED_ANGSTROM**2).nonzero()[:, 0]
            image, neighbour, bonds, weights = (_rows(one, short) for one in (image, neighbour, bonds, weights))
        along = bond(bonds)
        host = _rows(host, neighbour)
        to_host = layer.gated(own(host) + along + _rows(other(ion), image)) * weights
        to_ion = layer.gated(_rows(own(ion), image) + along + other(host)) * weights
        if looked_up is None:
            return to_host, to_ion
        return looked_up[0].index_copy(0, short, to_host), looked_up[1].index_copy(0, short, to_ion)

    def _updated(self, graph: IonGraph, *, ion: torch.Tensor, host: torch.Tensor, bonds: torch.Tensor) -> torch.Tensor:
        """The ion's bonds after the first layer on pairs of short bonds."""
        net, short, short_host = self.potential, graph.short_ion, graph.short_host
        outward, host_outward = _rows(graph.ion_vector, short), _rows(graph.host_vector, short_host)
        length, host_length = outward.norm(dim=1), host_outward.norm(dim=1)
        outward, host_outward = outward / length[:, None], host_outward / host_length[:, None]
        weights = net.bond_weights(net.bond_radial(length))
        host_weights = net.bond_weights(net.bond_radial(host_length))
        layer: Any = net.bond_layers[0]
        one, other, angle, atom = layer.pairs.gated.first
        short_bonds = _rows(bonds, short)
        of_one = one(short_bonds)
        host_bonds = net.bond_embedding(net.atom_radial(host_length))

        first, second = graph.at_ion_one, graph.at_ion_other
        cosine = (_rows(outward, first) * _rows(outward, second)).sum(dim=1)
        of_one_and_ion = of_one + _rows(atom(ion), _rows(graph.ion_image, short))
        joined = _rows(of_one_and_ion, first) + _rows(other(short_bonds), second) + angle(net.angles(cosine))
        total = torch.zeros(len(short), FEATURES, device=bonds.device)
        total = total.index_add(0, first, layer.pairs.gated(joined) * _rows(weights, first) * _rows(weights, second))

        first, second = graph.at_host_one, graph.at_host_other
        cosine = -(_rows(outward, first) * _rows(host_outward, second)).sum(dim=1)
        of_one_and_host = of_one + atom(_rows(host, short))
        joined = _rows(of_one_and_host, first) + _rows(other(host_bonds), second) + angle(net.angles(cosine))
        total = total.index_add(
            0, first, layer.pairs.gated(joined) * _rows(weights, first) * _rows(host_weights, second)
        )
        return bonds.index_copy(0, short, short_bonds + layer.out(total))


def _rows(values: torch.Tensor, places: torch.Tensor) -> torch.Tensor:
    """The rows at some places, six times as fast as values[places]."""
    return values.index_select(0, places)
