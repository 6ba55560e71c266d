"""Kernel machines on a hop's descriptors and a potential's features of its ion."""

from collections.abc import Mapping, Sequence

import torch
from torch import nn

from app.crystals.band import MODEL_IMAGE_COUNT
from app.models.features.ion import by_band, direction_free
from app.models.graphs.ion_graphs import IonGraph
from app.models.networks.chgnet import Chgnet
from app.models.networks.ion_environment import IonEnvironment
from app.models.networks.kernel_machines import KernelMachines
from app.models.networks.message_tables import MessageTables
from app.models.networks.world_machines import WorldMachines


class HopKernel(nn.Module):
    """A potential that describes the ion, and machines that read its features and the hop's descriptors.

    The machines are called with the groups of `ion_groups`, with "path" and "eased": descriptors of the straight and
    of the eased line, with "ion": its atomic number, and with "relaxed": relaxed descriptors, if any machine reads
    them; each has the shape [n_bands, its features].

    Args:
        machines: see KernelMachines.
        networks: see KernelMachines.
        relaxes: whether any machine reads the features of a relaxation.
        worlds, views, local: see WorldMachines; in place of machines, where there are worlds.
    """

    def __init__(
        self,
        *,
        machines: Sequence[Mapping[str, object]] = (),
        networks: Sequence[Mapping[str, object]] = (),
        relaxes: bool = False,
        worlds: Sequence[Mapping[str, object]] = (),
        views: Sequence[Mapping[str, object]] = (),
        local: Mapping[str, object] | None = None,
    ) -> None:
        super().__init__()
        self.relaxes = relaxes
        self.potential = Chgnet()
        self.machines: KernelMachines | WorldMachines = (
            WorldMachines(worlds=worlds, views=views, local=local)
            if worlds
            else KernelMachines(machines=machines, networks=networks)
        )

    @property
    def worlds(self) -> tuple[str, ...]:
        """The names of the corpora that the machines know apart; none where they do not."""
        return self.machines.names if isinstance(self.machines, WorldMachines) else ()

    def ion_groups(self, graph: IonGraph, tables: MessageTables | None = None) -> dict[str, torch.Tensor]:
        """The ion's features by line and layer, each of shape [n_bands, 5 * 64].

        Args:
            graph: of all bands, each with the images of the straight and those of the eased line.
            tables: lookup tables of the potential's first layer; None computes it.
        """
        layers = zip(("ion_1", "ion_2"), IonEnvironment(self.potential, tables)(graph), strict=True)
        groups: dict[str, torch.Tensor] = {}
        for name, images in layers:
            straight, eased = torch.split(by_band(images, 2 * MODEL_IMAGE_COUNT), MODEL_IMAGE_COUNT, dim=1)
            groups |= {name: direction_free(straight), f"eased_{name}": direction_free(eased)}
        return groups
