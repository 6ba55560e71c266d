"""The base class of networks that read a band as graphs."""

from typing import ClassVar

from torch import nn

from app.models.graphs.band_graphs import State


class GraphNetwork(nn.Module):
    """A network that reads a band as graphs, one for each of its states.

    Called with a batch for each state, it returns the transformed barrier, shape [n_graphs], and the pooled vector that
    it was computed from, shape [n_graphs, width].

    Attributes:
        states: which images of the ion each of its graphs holds.
        directional: whether a hop and its reverse can have different barriers.
    """

    states: ClassVar[tuple[State, ...]]
    directional: bool = False
