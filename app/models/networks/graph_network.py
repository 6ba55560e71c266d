"""What every network that reads a band as graphs has in common."""

from typing import ClassVar

from torch import nn

from app.models.band_graphs import State


class GraphNetwork(nn.Module):
    """A network that reads a band as graphs, one for each of its states.

    Called with a batch for each state it gives the transformed barrier, shape [n_graphs], and the vector that this
    was read from, shape [n_graphs, width].

    Attributes:
        states: which images of the ion each of its graphs holds.
        directional: whether it tells a hop from its reverse.
    """

    states: ClassVar[tuple[State, ...]]
    directional: bool = False
