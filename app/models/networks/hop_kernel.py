"""Kernel machines on a hop's descriptors and a potential's features of its ion."""

from collections.abc import Mapping, Sequence

import torch
from torch import nn

from app.models.features.ion import by_band, direction_free
from app.models.graphs.ion_graphs import IonGraph
from app.models.networks.chgnet import Chgnet
from app.models.networks.ion_environment import IonEnvironment
from app.models.networks.kernel_machines import KernelMachines
from app.models.networks.message_tables import MessageTables


class HopKernel(nn.Module):
    """A potential that describes the ion, and machines that read its features and the hop's descriptors.

    The machines are called with the groups of `ion_groups`, with "path": path descriptors, shape [n_bands, n_path],
    and with "relaxed": relaxed descriptors, shape [n_bands, n_relaxed], if any machine reads them.

    Args:
        machines: see KernelMachines; their groups are "path", "ion_1" and "ion_2" (the ion after one and two layers
            of the potential), and "relaxed" if `relaxes`.
        networks: see KernelMachines; they read the same groups.
        relaxes: whether any machine reads the features of a relaxation.
    """

    def __init__(
        self,
        *,
        machines: Sequence[Mapping[str, object]],
        networks: Sequence[Mapping[str, object]] = (),
        relaxes: bool = False,
    ) -> None:
        super().__init__()
        self.relaxes = relaxes
        self.potential = Chgnet()
        self.machines = KernelMachines(machines=machines, networks=networks)

    def ion_groups(self, graph: IonGraph, tables: MessageTables | None = None) -> dict[str, torch.Tensor]:
        """The ion's features by layer, each of shape [n_bands, 5 * 64].

        Args:
            graph: of all bands.
            tables: lookup tables of the potential's first layer; None computes it.
        """
        first, second = IonEnvironment(self.potential, tables)(graph)
        return {"ion_1": direction_free(by_band(first)), "ion_2": direction_free(by_band(second))}
