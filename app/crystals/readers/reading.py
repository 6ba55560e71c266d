"""Input and output of the readers."""

from collections.abc import Sequence
from dataclasses import dataclass

from app.crystals.band import Band
from app.errors import FormatError

#: Rows are the lattice vectors.
Cell = tuple[tuple[float, float, float], tuple[float, float, float], tuple[float, float, float]]


@dataclass(frozen=True, kw_only=True)
class File:
    """An uploaded file.

    Attributes:
        name: for messages and as a hint at the format; never used as a path.
        content: its bytes.
        cell_angstrom: the lattice vectors that were sent beside it, for formats that have no cell.
    """

    name: str
    content: bytes
    cell_angstrom: Cell | None = None


@dataclass(frozen=True, kw_only=True)
class Reading:
    """A band as it was uploaded.

    Attributes:
        band: with every image and relaxed host.
        warnings: of the reader.
        energies_ev: the total energy of each image, None where the file has none of it; empty where it has none at all.
    """

    band: Band
    warnings: tuple[str, ...]
    energies_ev: tuple[float | None, ...] = ()


def several_hops(name: str, hops: Sequence[str]) -> FormatError:
    """The error for a database of ASE with the bands of several hops, as the export of a crystal has them.

    Args:
        name: of the file.
        hops: their numbers.
    """
    most = 5
    shown = ", ".join(hops[:most]) + (", ..." if len(hops) > most else "")
    return FormatError(
        f"{name} contains the bands of {len(hops)} hops: {shown}.",
        kind="several-bands",
        where=name,
        expected="the rows of one hop alone: `ase convert -i 'FILE@hop=1' -o hop.extxyz`",
    )
