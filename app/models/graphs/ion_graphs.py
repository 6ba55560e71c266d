"""The bonds of the ions of several bands as tensors: the input of two layers of a potential."""

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
import torch

from app.models.graphs.ion_bonds import IonBonds


@dataclass(frozen=True, kw_only=True)
class IonGraph:
    """The fields of IonBonds as tensors; indices run through all bands."""

    ion_numbers: torch.Tensor
    host_numbers: torch.Tensor
    source_numbers: torch.Tensor
    host_target: torch.Tensor
    host_source: torch.Tensor
    host_vector: torch.Tensor
    ion_image: torch.Tensor
    ion_host: torch.Tensor
    ion_vector: torch.Tensor
    short_ion: torch.Tensor
    short_host: torch.Tensor
    at_ion_one: torch.Tensor
    at_ion_other: torch.Tensor
    at_host_one: torch.Tensor
    at_host_other: torch.Tensor

    def to(self, device: torch.device) -> "IonGraph":
        """The same graph on another device."""
        moved: dict[str, Any] = {
            field.name: getattr(self, field.name).to(device, non_blocking=True) for field in fields(self)
        }
        return IonGraph(**moved)


#: The list that each index field refers to, needed to join graphs.
_COUNTED_IN = {
    "host_target": "host_numbers",
    "host_source": "source_numbers",
    "ion_image": "ion_numbers",
    "ion_host": "host_numbers",
    "short_ion": "ion_image",
    "short_host": "host_target",
    "at_ion_one": "short_ion",
    "at_ion_other": "short_ion",
    "at_host_one": "short_ion",
    "at_host_other": "short_host",
}


def join_ion_graphs(bands: Sequence[IonBonds]) -> IonGraph:
    """Join the bonds of several bands."""
    joined: dict[str, torch.Tensor] = {}
    for field in fields(IonGraph):
        parts = [getattr(band, field.name) for band in bands]
        if counted := _COUNTED_IN.get(field.name):
            offsets = np.cumsum([0, *(len(getattr(band, counted)) for band in bands[:-1])])
            parts = [part + offset for part, offset in zip(parts, offsets, strict=True)]
        joined[field.name] = torch.from_numpy(np.concatenate(parts))
    return IonGraph(**joined)
