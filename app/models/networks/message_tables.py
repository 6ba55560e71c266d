"""Messages between host atoms in a potential's first layer, tabulated over their distance."""

import threading
from typing import Any

import torch
from torch.nn import functional

from app.models.graphs.cutoffs import ATOM_CUTOFF_ANGSTROM
from app.models.graphs.ion_bonds import SAME_PLACE_ANGSTROM
from app.models.graphs.ion_graphs import IonGraph
from app.models.networks.chgnet import ELEMENTS, FEATURES, Chgnet

#: Nodes of a table, equally spaced in the square root of the distance: messages of short bonds vary fastest. An
#: interpolated message is within 5e-5 of the exact one for bonds longer than 1.2 angstrom, within 1e-3 for any.
NODES = 1024
#: A table takes a quarter of a mebibyte; a crystal needs about ten. Beyond this number, all are discarded.
MOST_PAIRS = 640
#: Number of neighbouring nodes of a cubic interpolation.
_POINTS = 4


class MessageTables:
    """The messages of CHGNet's first layer between atoms that do not move.

    Such a message depends only on two elements and a length, so that for each pair of elements it is a curve, which is
    computed once and then interpolated: 0.9 ms per band instead of 16.5. A new pair takes 2 ms. Safe to use from
    several threads. Answers do not depend on earlier calls.

    Args:
        potential: on the CPU, its weights final.
    """

    def __init__(self, potential: Chgnet) -> None:
        self._potential = potential
        self._lock = threading.Lock()
        self._of_length: tuple[torch.Tensor, torch.Tensor] | None = None
        self._kept = _Kept()

    @torch.inference_mode()
    def totals(self, graph: IonGraph) -> torch.Tensor | None:
        """The sum of the messages from its bonds to every host atom, shape [n_host, 64].

        None where the bonds have more pairs of elements than tables are kept.
        """
        to = graph.host_numbers.index_select(0, graph.host_target)
        pairs = to * (ELEMENTS + 1) + graph.source_numbers.index_select(0, graph.host_source)
        return self._sums(pairs, graph.host_vector, graph.host_target, len(graph.host_numbers))

    @torch.inference_mode()
    def of_ion(self, graph: IonGraph) -> tuple[torch.Tensor, torch.Tensor] | None:
        """The messages along the ion's bonds to the host atoms and to the ion, each of shape [n_ion_bonds, 64].

        None where the bonds have more pairs of elements than tables are kept.
        """
        ion = graph.ion_numbers.index_select(0, graph.ion_image)
        host = graph.host_numbers.index_select(0, graph.ion_host)
        pairs = torch.cat([host * (ELEMENTS + 1) + ion, ion * (ELEMENTS + 1) + host])
        each = torch.arange(len(pairs))
        found = self._sums(pairs, graph.ion_vector.repeat(2, 1), each, len(pairs))
        return None if found is None else (found[: len(ion)], found[len(ion) :])

    def _sums(
        self, pairs: torch.Tensor, vectors: torch.Tensor, targets: torch.Tensor, count: int
    ) -> torch.Tensor | None:
        """The sum of messages to each target, in whose order the bonds are, shape [count, 64]."""
        kept = self._holding(pairs)
        if kept is None:
            return None
        root = vectors.norm(dim=1).sqrt()
        place = (root - _FIRST_ROOT) / _STEP
        node = place.floor().clamp(1, NODES - _POINTS + 1)
        first = kept.row_of_pair.index_select(0, pairs) * NODES + node.long() - 1
        rows = first[:, None] + torch.arange(_POINTS)
        bonds = torch.bincount(targets, minlength=count)
        return functional.embedding_bag(
            rows.flatten(),
            kept.messages,
            _POINTS * (bonds.cumsum(dim=0) - bonds),
            mode="sum",
            per_sample_weights=_cubic(place - node).flatten(),
        )

    def _holding(self, pairs: torch.Tensor) -> "_Kept | None":
        """Tables that include all these pairs; None if there are too many pairs."""
        kept = self._kept
        if bool((kept.row_of_pair.index_select(0, pairs) >= 0).all()):
            return kept
        wanted: torch.Tensor = torch.unique(pairs)
        if len(wanted) > MOST_PAIRS:
            return None
        with self._lock:
            kept = self._kept
            missing = wanted[kept.row_of_pair[wanted] < 0]
            if kept.count + len(missing) > MOST_PAIRS:
                kept = self._kept = _Kept()  # threads still reading the old ones keep them
                missing = wanted
            for pair in missing.tolist():
                kept.add(pair, self._curve(*divmod(pair, ELEMENTS + 1)))
        return kept

    def _curve(self, number: int, other_number: int) -> torch.Tensor:
        """The messages to an atom from another at every node, shape [NODES, 64]."""
        net = self._potential
        layer: Any = net.atom_layers[0]  # the type of modules in a list is lost
        own, bond, other = layer.gated.first
        if self._of_length is None:  # the same for all elements
            radial = net.atom_radial((_FIRST_ROOT + _STEP * torch.arange(NODES)).square())
            self._of_length = bond(net.bond_embedding(radial)), net.atom_weights(radial)
        joined, weights = self._of_length
        one, two = net.elements(torch.tensor([number - 1, other_number - 1]))
        message: torch.Tensor = layer.gated(joined + (own(one) + other(two))) * weights
        return message


class SharedTables:
    """Tables shared by all checkpoints whose potential has the same weights."""

    def __init__(self) -> None:
        self._made: list[tuple[Chgnet, MessageTables]] = []

    def of(self, potential: Chgnet) -> MessageTables:
        """The tables of a potential."""
        for known, tables in self._made:
            pairs = zip(known.state_dict().values(), potential.state_dict().values(), strict=True)
            if all(torch.equal(one, other) for one, other in pairs):
                return tables
        tables = MessageTables(potential)
        self._made.append((potential, tables))
        return tables


class _Kept:
    """All tables in one tensor; a row is written once, before it can be found, and never changed."""

    def __init__(self) -> None:
        self.count = 0
        self.row_of_pair = torch.full(((ELEMENTS + 1) ** 2,), -1)
        self.messages = torch.empty(MOST_PAIRS * NODES, FEATURES)  # pages that are not written take no memory

    def add(self, pair: int, messages: torch.Tensor) -> None:
        self.messages[self.count * NODES : (self.count + 1) * NODES] = messages
        self.row_of_pair[pair] = self.count
        self.count += 1


_FIRST_ROOT = SAME_PLACE_ANGSTROM**0.5
_STEP = (ATOM_CUTOFF_ANGSTROM**0.5 - _FIRST_ROOT) / (NODES - 1)


def _cubic(place: torch.Tensor) -> torch.Tensor:
    """Lagrange weights of four nodes, shape [n, 4], at positions counted from the second node."""
    before, after, beyond = place + 1, 1 - place, 2 - place
    return torch.stack(
        [
            -place * after * beyond / 6,
            before * after * beyond / 2,
            before * place * beyond / 2,
            -before * place * after / 6,
        ],
        dim=1,
    )
