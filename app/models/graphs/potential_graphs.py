"""The graph that a universal potential reads: bonds, and pairs of short bonds that share an atom."""

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
import torch
from vesin import NeighborList

from app.crystals.band import FloatArray, IntArray


@dataclass(frozen=True, kw_only=True)
class PotentialGraph:
    """The joined graphs of several structures, as a potential reads them.

    Attributes:
        atomic_numbers: shape [n_atoms].
        positions: shape [n_atoms, 3], angstrom.
        bond_first, bond_second: atoms of every undirected bond, shape [n_bonds].
        bond_shift: added to the second atom's position to get the bonded periodic copy, shape [n_bonds, 3], angstrom.
        short_bond: bonds within the inner cutoff, shape [n_short].
        pair_atom, pair_one, pair_other: two short bonds (as indices into short_bond) that share an atom, in both
            orders, shape [n_pairs].
        pair_sign: -1 where exactly one of the two points towards the shared atom, else 1, shape [n_pairs].
    """

    atomic_numbers: torch.Tensor
    positions: torch.Tensor
    bond_first: torch.Tensor
    bond_second: torch.Tensor
    bond_shift: torch.Tensor
    short_bond: torch.Tensor
    pair_atom: torch.Tensor
    pair_one: torch.Tensor
    pair_other: torch.Tensor
    pair_sign: torch.Tensor

    def to(self, device: torch.device) -> "PotentialGraph":
        """The same graph on another device."""
        moved: dict[str, Any] = {
            field.name: value.to(device, non_blocking=True) if isinstance(value, torch.Tensor) else value
            for field in fields(self)
            for value in [getattr(self, field.name)]
        }
        return PotentialGraph(**moved)


def potential_graph(
    atomic_numbers: IntArray,
    positions: FloatArray,
    lattice_angstrom: FloatArray,
    *,
    cutoff_angstrom: float,
    short_cutoff_angstrom: float,
) -> PotentialGraph:
    """Build the graph of one structure.

    Args:
        atomic_numbers: shape [n_atoms].
        positions: Cartesian, shape [n_atoms, 3], angstrom.
        lattice_angstrom: rows are the lattice vectors, shape [3, 3], angstrom.
        cutoff_angstrom: how long a bond may be.
        short_cutoff_angstrom: how long a short bond may be.
    """
    neighbours = NeighborList(cutoff=cutoff_angstrom, full_list=False)
    first, second, cells = neighbours.compute(points=positions, box=lattice_angstrom, periodic=True, quantities="ijS")
    first, second = first.astype(np.int64), second.astype(np.int64)
    shift = cells @ lattice_angstrom
    length = np.linalg.norm(positions[second] + shift - positions[first], axis=1)
    short = np.flatnonzero(length < short_cutoff_angstrom)
    atom, one, other, sign = _pairs(first[short], second[short], len(atomic_numbers))
    return PotentialGraph(
        atomic_numbers=torch.from_numpy(np.asarray(atomic_numbers, dtype=np.int64)),
        positions=torch.from_numpy(positions.astype(np.float32)),
        bond_first=torch.from_numpy(first),
        bond_second=torch.from_numpy(second),
        bond_shift=torch.from_numpy(shift.astype(np.float32)),
        short_bond=torch.from_numpy(short),
        pair_atom=torch.from_numpy(atom),
        pair_one=torch.from_numpy(one),
        pair_other=torch.from_numpy(other),
        pair_sign=torch.from_numpy(sign.astype(np.float32)),
    )


def join(graphs: Sequence[PotentialGraph]) -> PotentialGraph:
    """Join graphs into one."""
    atoms = _offsets([len(graph.atomic_numbers) for graph in graphs])
    bonds = _offsets([len(graph.bond_first) for graph in graphs])
    shorts = _offsets([len(graph.short_bond) for graph in graphs])

    def joined(name: str, offsets: list[int] | None = None) -> torch.Tensor:
        parts = [getattr(graph, name) for graph in graphs]
        return torch.cat(parts if offsets is None else [p + o for p, o in zip(parts, offsets, strict=True)])

    return PotentialGraph(
        atomic_numbers=joined("atomic_numbers"),
        positions=joined("positions"),
        bond_first=joined("bond_first", atoms),
        bond_second=joined("bond_second", atoms),
        bond_shift=joined("bond_shift"),
        short_bond=joined("short_bond", bonds),
        pair_atom=joined("pair_atom", atoms),
        pair_one=joined("pair_one", shorts),
        pair_other=joined("pair_other", shorts),
        pair_sign=joined("pair_sign"),
    )


def _offsets(sizes: list[int]) -> list[int]:
    return [0, *np.cumsum(sizes)[:-1].tolist()]


def _pairs(first: IntArray, second: IntArray, atom_count: int) -> tuple[IntArray, IntArray, IntArray, IntArray]:
    """Every ordered pair of different short bonds at an atom: the atom, both bonds, and their sign."""
    bond = np.arange(len(first))
    atom, bond = np.concatenate([first, second]), np.concatenate([bond, bond])
    outward = np.concatenate([np.ones(len(first), dtype=np.int64), -np.ones(len(first), dtype=np.int64)])
    order = np.argsort(atom, kind="stable")
    atom, bond, outward = atom[order], bond[order], outward[order]
    count = np.bincount(atom, minlength=atom_count)
    begin = np.cumsum(count) - count
    mates = count[atom]
    one = np.repeat(np.arange(len(atom)), mates)
    other = begin[atom[one]] + np.arange(len(one)) - np.repeat(np.cumsum(mates) - mates, mates)
    different = one != other
    one, other = one[different], other[different]
    return atom[one], bond[one], bond[other], outward[one] * outward[other]
