"""The migrating ion's features after one and two layers of a potential, computed from what can reach it alone."""

from typing import Any

import torch
from torch import nn

from app.models.ion_graphs import IonGraph
from app.models.networks.chgnet import FEATURES, Chgnet


class IonEnvironment(nn.Module):
    """Two layers of CHGNet, at the ion.

    The same numbers as the whole potential gives for the ion in a cell large enough for its copies not to reach it.
    Two layers see twelve angstrom. What the host's atoms tell each other in the first does not depend on where the
    ion is, so it is computed once for all images.

    Args:
        potential: its weights are shared, not copied.
    """

    def __init__(self, potential: Chgnet) -> None:
        super().__init__()
        self.potential = potential

    def forward(self, graph: IonGraph) -> tuple[torch.Tensor, torch.Tensor]:
        """The ion's features after the first and the second layer, each of shape [n_images, 64]."""
        net = self.potential
        host, ion = net.elements(graph.host_numbers - 1), net.elements(graph.ion_numbers - 1)
        radial = net.atom_radial(graph.ion_vector.norm(dim=1))
        bonds, weights = net.bond_embedding(radial), net.atom_weights(radial)
        host_radial = net.atom_radial(graph.host_vector.norm(dim=1))
        host_bonds = net.bond_embedding(host_radial)

        layer: Any = net.atom_layers[0]  # a list of modules forgets their types
        own, bond, other = layer.gated.first
        from_hosts = layer.gated(
            own(host)[graph.host_target]
            + bond(host_bonds)
            + other(net.elements(graph.source_numbers - 1))[graph.host_source]
        ) * net.atom_weights(host_radial)
        host_total = torch.zeros_like(host).index_add(0, graph.host_target, from_hosts)
        image, neighbour = graph.ion_image, graph.ion_host
        to_host = layer.gated(own(host)[neighbour] + bond(bonds) + other(ion)[image]) * weights
        to_ion = layer.gated(own(ion)[image] + bond(bonds) + other(host)[neighbour]) * weights
        # One copy of a host atom for every image that it is bound to.
        host = host[neighbour] + layer.out(host_total[neighbour] + to_host)
        ion = first = ion + layer.out(torch.zeros_like(ion).index_add(0, image, to_ion))

        bonds = self._updated(graph, ion=ion, host=host, bonds=bonds, host_bonds=host_bonds)
        layer = net.atom_layers[1]
        own, bond, other = layer.gated.first
        message = layer.gated(own(ion)[image] + bond(bonds) + other(host)) * weights
        second = ion + layer.out(torch.zeros_like(ion).index_add(0, image, message))
        return first, second

    def _updated(
        self,
        graph: IonGraph,
        *,
        ion: torch.Tensor,
        host: torch.Tensor,
        bonds: torch.Tensor,
        host_bonds: torch.Tensor,
    ) -> torch.Tensor:
        """The ion's bonds after the first layer on pairs of short bonds."""
        net, short, short_host = self.potential, graph.short_ion, graph.short_host
        length, host_length = graph.ion_vector[short].norm(dim=1), graph.host_vector[short_host].norm(dim=1)
        outward = graph.ion_vector[short] / length[:, None]
        host_outward = graph.host_vector[short_host] / host_length[:, None]
        weights = net.bond_weights(net.bond_radial(length))
        host_weights = net.bond_weights(net.bond_radial(host_length))
        layer: Any = net.bond_layers[0]
        one, other, angle, atom = layer.pairs.gated.first
        of_one = one(bonds[short])

        first, second = graph.at_ion_one, graph.at_ion_other
        cosine = (outward[first] * outward[second]).sum(dim=1)
        joined = of_one[first] + other(bonds[short])[second] + angle(net.angles(cosine))
        joined = joined + atom(ion)[graph.ion_image[short][first]]
        total = torch.zeros(len(short), FEATURES, device=bonds.device)
        total = total.index_add(0, first, layer.pairs.gated(joined) * weights[first] * weights[second])

        first, second = graph.at_host_one, graph.at_host_other
        cosine = -(outward[first] * host_outward[second]).sum(dim=1)
        joined = of_one[first] + other(host_bonds[short_host])[second] + angle(net.angles(cosine))
        joined = joined + atom(host[short])[first]
        total = total.index_add(0, first, layer.pairs.gated(joined) * weights[first] * host_weights[second])
        return bonds.index_copy(0, short, bonds[short] + layer.out(total))
