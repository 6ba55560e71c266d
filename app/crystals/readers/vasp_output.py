"""VASP's vasprun.xml and OUTCAR: the structure and energy of each ionic step."""

import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import cast
from xml.etree.ElementTree import Element, ParseError, XMLPullParser

import numpy as np

from app.crystals.band import FloatArray
from app.crystals.elements import plain_symbol
from app.crystals.limits import Limits
from app.crystals.readers.frames import Frame
from app.crystals.validation import check_cell
from app.errors import FormatError

_CHUNK_CHARACTERS = 1 << 16
#: Larger than any length in angstrom or energy in eV, and far below overflow.
_LARGEST = 1e9
_XML_FORMAT = "vasprun.xml as VASP writes it: atominfo, then a calculation with its structure for each ionic step"
_OUTCAR_FORMAT = "OUTCAR as VASP writes it: potentials, ions per type, lattice vectors, then POSITION blocks"

_NUMBER = re.compile(r"[-+]?\d+\.\d*(?:[eE][-+]?\d+)?")
#: Of the end of an ionic step; within one there is a single blank: "energy without entropy".
_STEP_ENERGY = re.compile(r"energy  without entropy=\s*\S+\s+energy\(sigma->0\)\s*=\s*([-+]?\d+\.\d+)")
_TYPE = re.compile(r"VRHFIN\s*=\s*([A-Z][a-z]?)\s*:")
_TITLE = re.compile(r"TITEL\s*=\s*\S+\s+([A-Z][a-z]?)(?:[_\s]|$)")


@dataclass(frozen=True, kw_only=True)
class VaspSteps:
    """The ionic steps of a run.

    Attributes:
        frames: of each step, or of the last alone.
        count: how many there are.
    """

    frames: tuple[Frame, ...]
    count: int


def outcar_energy_ev(text: str) -> float | None:
    """The energy of the last ionic step, extrapolated to no smearing; None where none was finished."""
    found = _STEP_ENERGY.findall(text)
    return _energy(found[-1]) if found else None


# --- vasprun.xml ---


def read_vasprun(text: str, name: str, limits: Limits, *, last_alone: bool = False) -> VaspSteps:
    """Read the ionic steps: https://www.vasp.at/wiki/index.php/Vasprun.xml.

    A file that ends early, as that of a run in progress, gives the steps that are complete. Entities are refused.

    Args:
        text: of the file.
        name: of the file.
        limits: how large it may be.
        last_alone: keep the last step and count the others.

    Raises:
        FormatError: kind "unreadable-vasprun".
        InputError: kinds "unknown-element", "not-a-cell".
        TooLargeError: atoms, or images unless the last is kept alone.
    """
    if "<!DOCTYPE" in text or "<!ENTITY" in text:  # what VASP never writes, and what makes text grow without bound
        raise _unreadable_xml("it declares entities", name)
    species: tuple[str, ...] | None = None
    start: Element | None = None
    frames: list[Frame] = []
    count, ends_early = 0, False
    try:
        for element in _finished(text):
            if element.tag == "atominfo":
                species = _atoms(element, name, limits)
            elif element.tag == "structure":
                start = element
            else:
                count += 1
                frames = [] if last_alone else frames
                limits.check_images(len(frames) + 1, name)
                frames.append(_step(element, species, f"{name}, ionic step {count}", name))
    except ParseError:
        ends_early = True
    if not frames and start is not None and species is not None:
        frames = [_frame(start, species, f"{name}, its first structure", name, None)]
    if not frames:
        raise _unreadable_xml("it ends before its first structure" if ends_early else "it holds no structure", name)
    if ends_early:
        warning = f"{name} ends early: the run is not finished, and its {count} complete ionic steps were read."
        frames[-1] = replace(frames[-1], warnings=(*frames[-1].warnings, warning))
    return VaspSteps(frames=tuple(frames), count=max(count, 1))


def _finished(text: str) -> Iterator[Element]:
    """Each atominfo, initial structure and calculation once it is complete; what is not needed is dropped."""
    parser: XMLPullParser[Element] = XMLPullParser(("start", "end"))
    in_atoms = False
    for start in range(0, len(text), _CHUNK_CHARACTERS):
        parser.feed(text[start : start + _CHUNK_CHARACTERS])
        for event, element in cast("Iterator[tuple[str, Element]]", parser.read_events()):
            if element.tag == "atominfo":
                in_atoms = event == "start"
            if event == "start":
                continue
            if element.tag in ("atominfo", "calculation") or (
                element.tag == "structure" and element.get("name") == "initialpos"
            ):
                yield element
                if element.tag != "structure":
                    element.clear()
            elif element.tag == "set" and not in_atoms:  # eigenvalues, densities of states
                element.clear()
    parser.close()


def _atoms(element: Element, name: str, limits: Limits) -> tuple[str, ...]:
    array = next((one for one in element.iter("array") if one.get("name") == "atoms"), None)
    rows = [] if array is None else list(array.iter("rc"))
    limits.check_atoms(len(rows), name)
    symbols = [next((cell.text or "" for cell in row.iter("c")), "").strip() for row in rows]
    return tuple(plain_symbol("X" if symbol == "" else symbol, f"{name}, atominfo") for symbol in symbols)


def _step(element: Element, species: tuple[str, ...] | None, frame_name: str, name: str) -> Frame:
    structure = element.find("structure")
    if structure is None or not species:
        raise _unreadable_xml("an ionic step has no structure, or no atoms are listed before it", name)
    return _frame(structure, species, frame_name, name, _step_energy_ev(element))


def _step_energy_ev(element: Element) -> float | None:
    """Extrapolated to no smearing.

    Some versions write a wrong e_0_energy at the end of a step, and dispersion corrections there alone: so the
    difference between the two is that of the last electronic step, as ase.io.vasp has it too.
    """
    whole = _value(element.find("energy"), "e_fr_energy")
    electronic = element.findall("scstep/energy")
    if whole is None or not electronic:
        return whole
    free, extrapolated = (_value(electronic[-1], key) for key in ("e_fr_energy", "e_0_energy"))
    return whole if free is None or extrapolated is None else whole + extrapolated - free


def _value(element: Element | None, key: str) -> float | None:
    found = None if element is None else next((one for one in element.iter("i") if one.get("name") == key), None)
    return None if found is None else _energy(found.text or "")


def _frame(structure: Element, species: tuple[str, ...], frame_name: str, name: str, energy_ev: float | None) -> Frame:
    arrays = {one.get("name"): one for one in structure.iter("varray")}
    lattice = _rows(arrays.get("basis"), name)
    positions = _rows(arrays.get("positions"), name)
    if lattice.shape != (3, 3) or len(positions) != len(species):
        raise _unreadable_xml(f"{frame_name} has {len(positions)} positions for {len(species)} atoms", name)
    check_cell(lattice, f"{frame_name}, the cell")
    return Frame(lattice_angstrom=lattice, species=species, frac_coords=positions, name=frame_name, energy_ev=energy_ev)


def _rows(array: Element | None, name: str) -> FloatArray:
    try:
        rows = [[float(word) for word in (row.text or "").split()] for row in ([] if array is None else array)]
    except ValueError as error:
        raise _unreadable_xml("a coordinate is not a number", name) from error
    if not rows or any(len(row) != 3 or not all(abs(x) < _LARGEST for x in row) for row in rows):  # noqa: PLR2004
        raise _unreadable_xml("a cell or position is not three numbers", name)
    return np.array(rows)


def _unreadable_xml(detail: str, name: str) -> FormatError:
    return FormatError(
        f"{name} looks like a vasprun.xml, but {detail}.", kind="unreadable-vasprun", where=name, expected=_XML_FORMAT
    )


# --- OUTCAR ---


def read_outcar(text: str, name: str, limits: Limits, *, last_alone: bool = False) -> VaspSteps:
    """Read the ionic steps: https://www.vasp.at/wiki/index.php/OUTCAR.

    Args:
        text: of the file.
        name: of the file.
        limits: how large it may be.
        last_alone: keep the last step and count the others.

    Raises:
        FormatError: kind "unreadable-outcar"; `where` names the line.
        InputError: kinds "unknown-element", "not-a-cell".
        TooLargeError: atoms, or images unless the last is kept alone.
    """
    lines = text.split("\n")
    species = _outcar_species(text, name, limits)
    lattice: FloatArray | None = None
    frames: list[Frame] = []
    count = 0
    for at, line in enumerate(lines):
        if "direct lattice vectors" in line and "reciprocal" in line:
            lattice = _table(lines, at + 1, 3, name)
            check_cell(lattice, f"{name}, line {at + 2}")
        elif "POSITION" in line and "TOTAL-FORCE" in line:
            if lattice is None:
                raise _unreadable_outcar("There are no lattice vectors before the positions", f"{name}, line {at + 1}")
            count += 1
            frames = [] if last_alone else frames
            limits.check_images(len(frames) + 1, name)
            positions = _table(lines, at + 2, len(species), name)
            frames.append(
                Frame(
                    lattice_angstrom=lattice,
                    species=species,
                    frac_coords=positions @ np.linalg.inv(lattice),
                    name=f"{name}, ionic step {count}",
                )
            )
        elif frames and frames[-1].energy_ev is None and (energy := _STEP_ENERGY.search(line)):
            frames[-1] = replace(frames[-1], energy_ev=_energy(energy[1]))
    if not frames:
        raise _unreadable_outcar("No ionic step is complete: there is no POSITION block", f"{name}, line {len(lines)}")
    return VaspSteps(frames=tuple(frames), count=count)


def _outcar_species(text: str, name: str, limits: Limits) -> tuple[str, ...]:
    found = re.search(r"ions per type\s*=[ \t]*(\d{1,9}(?:[ \t]+\d{1,9})*)\s*$", text, re.MULTILINE)
    if found is None:
        raise _unreadable_outcar('There is no line "ions per type"', name)
    counts = [int(word) for word in found[1].split()]
    if not sum(counts):
        raise _unreadable_outcar("It has no ions", name)
    limits.check_atoms(sum(counts), name)
    kinds = next((some for pattern in (_TYPE, _TITLE) if len(some := pattern.findall(text)) == len(counts)), None)
    if kinds is None:
        raise _unreadable_outcar(f"It names no element for each of its {len(counts)} types of ions", name)
    symbols = [plain_symbol(symbol, name) for symbol in kinds]
    return tuple(symbol for symbol, count in zip(symbols, counts, strict=True) for _ in range(count))


def _table(lines: list[str], start: int, rows: int, name: str) -> FloatArray:
    """The first three numbers of some lines; columns may run together, as the format is fixed."""
    table: list[list[float]] = []
    for at in range(start, start + rows):
        numbers = [float(one) for one in _NUMBER.findall(lines[at][:200] if at < len(lines) else "")[:3]]
        if len(numbers) != 3 or not all(abs(x) < _LARGEST for x in numbers):  # noqa: PLR2004 - space has three directions
            raise _unreadable_outcar("Expected three numbers here", f"{name}, line {at + 1}")
        table.append(numbers)
    return np.array(table)


def _energy(text: str) -> float | None:
    try:
        energy = float(text)
    except ValueError:
        return None
    return energy if abs(energy) < _LARGEST else None  # so that NaN is none


def _unreadable_outcar(detail: str, where: str) -> FormatError:
    return FormatError(f"{detail}.", kind="unreadable-outcar", where=where, expected=_OUTCAR_FORMAT)
