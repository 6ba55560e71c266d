"""All 530 settings of the space groups, named in every spelling that occurs, are read as they are or refused.

One in three settings is written and read in `make test`, all of them in `make nightly`.
"""

import math
import sys
import warnings
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import cache, cached_property
from typing import Any

import numpy as np
import pytest
import spglib

from app.crystals.band import FloatArray
from app.crystals.limits import Limits
from app.crystals.readers.cif import read_cif
from app.crystals.readers.cif_settings import SPGLIB_SETTINGS
from app.crystals.readers.reading import File
from app.errors import InputError

#: Of the spellings that fit one setting alone, at most this share may be refused.
MOST_REFUSED = 0.01
ATOMS = (("Li", (0.1234, 0.2717, 0.3891)), ("O", (0.3173, 0.0719, 0.1637)))


@dataclass(frozen=True, kw_only=True, eq=False)
class Setting:
    """A setting of spglib's table, which is independent of the one that the reader uses for operations."""

    number: int
    full: str
    short: str
    choice: str
    hall: str
    rotations: Any
    translations: Any

    @cached_property
    def key(self) -> frozenset[tuple[int, ...]]:
        shifts = np.rint(self.translations * 24).astype(int) % 24
        return frozenset(
            (*map(int, rotation.ravel()), *map(int, shift))
            for rotation, shift in zip(self.rotations, shifts, strict=True)
        )


@cache
def settings() -> tuple[Setting, ...]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found = []
        for index in range(1, SPGLIB_SETTINGS + 1):
            kind, operations = spglib.get_spacegroup_type(index), spglib.get_symmetry_from_database(index)
            found.append(
                Setting(
                    number=kind.number,
                    full=kind.international_full,
                    short=kind.international.rpartition("=")[2].strip(),
                    choice=kind.choice,
                    hall=kind.hall_symbol,
                    rotations=operations["rotations"],
                    translations=operations["translations"],
                )
            )
    return tuple(found)


@cache
def cell_of(setting: Setting) -> tuple[list[float], FloatArray]:
    """A cell with the symmetry of a setting and no more: lengths and angles, and the metric tensor."""
    generic = np.array([[1.0, 0.21, 0.16], [0.21, 1.31, 0.13], [0.16, 0.13, 1.69]])
    metric = np.mean([rotation.T @ generic @ rotation for rotation in setting.rotations], axis=0)
    metric *= (150.0 * len(setting.rotations)) ** (2 / 3) / np.linalg.det(metric) ** (1 / 3)
    lengths = np.sqrt(np.diag(metric))
    angles = [math.degrees(math.acos(metric[i, j] / lengths[i] / lengths[j])) for i, j in ((1, 2), (0, 2), (0, 1))]
    return [*lengths, *angles], metric


def cif_of(setting: Setting, names: dict[str, str]) -> str:
    parameters, _ = cell_of(setting)
    tags = ("length_a", "length_b", "length_c", "angle_alpha", "angle_beta", "angle_gamma")
    lines = ["data_x"] + [f"_cell_{tag} {value:.6f}" for tag, value in zip(tags, parameters, strict=True)]
    lines += [f'{tag} "{value}"' if '"' not in value else f"{tag} '{value}'" for tag, value in names.items()]
    lines += ["loop_", "_atom_site_label", "_atom_site_fract_x", "_atom_site_fract_y", "_atom_site_fract_z"]
    lines += [f"{symbol}1 {x} {y} {z}" for symbol, (x, y, z) in ATOMS]
    return "\n".join(lines) + "\n"


@cache
def places_of(setting: Setting) -> dict[str, list[tuple[int, ...]]]:
    found = {}
    for symbol, place in ATOMS:
        images = setting.rotations @ np.array(place) + setting.translations
        found[symbol] = sorted(
            {tuple(map(int, np.rint(image % 1.0 * 10_000).astype(int) % 10_000)) for image in images}
        )
    return found


def outcome(setting: Setting, names: dict[str, str]) -> str:
    try:
        crystal = read_cif(File(name="x", content=b""), cif_of(setting, names), Limits(max_atoms=10_000))
    except InputError:
        return "refused"
    found: dict[str, list[tuple[int, ...]]] = {"Li": [], "O": []}
    for site in crystal.sites:
        ((symbol, _),) = site.species
        found[symbol].append(tuple(round(value * 10_000) % 10_000 for value in site.frac_coords))
    return "right" if {symbol: sorted(rows) for symbol, rows in found.items()} == places_of(setting) else "wrong"


HM, ALT = "_symmetry_space_group_name_H-M", "_space_group_name_H-M_alt"
NUMBER, IT = "_symmetry_Int_Tables_number", "_space_group_IT_number"


def spellings(one: Setting) -> Iterator[tuple[str, dict[str, str]]]:
    """Each way to name a setting: what it is called here, and the names in the file."""
    full, short, number = one.full.replace("_", ""), one.short.replace("_", ""), str(one.number)
    yield "full and number", {HM: full, NUMBER: number}
    yield "full", {ALT: full}
    yield "short and number", {ALT: short, IT: number}
    yield "short", {HM: short}
    yield "short, subscripts marked", {HM: one.short}
    yield (
        "short, subscripts in brackets",
        {HM: one.short.replace("_1", "(1)").replace("_2", "(2)").replace("_3", "(3)")},
    )
    yield "short, no spaces", {HM: short.replace(" ", "")}
    yield "full, no spaces", {HM: full.replace(" ", "")}
    yield "full, spaces as underscores", {HM: full.replace(" ", "_")}
    yield "capitals", {HM: short.upper()}
    yield "small letters", {ALT: short.lower()}
    if one.number > 1:
        yield (
            "without ones",
            {HM: " ".join(word for k, word in enumerate(short.split()) if not k or word != "1"), IT: number},
        )
    yield "Hall", {"_space_group_name_Hall": one.hall}
    yield "Hall, old name", {"_symmetry_space_group_name_Hall": one.hall.replace(" ", "_")}
    yield "number", {IT: number}
    if one.number >= 195:
        yield "cubic without bar", {HM: short.replace("-3", "3")}
    if one.choice:
        yield "short with choice", {HM: f"{short} :{one.choice}"}
        yield "full with choice", {ALT: f"{full}:{one.choice}"}
        yield "code beside", {ALT: short, "_space_group_IT_coordinate_system_code": one.choice.lower()}
        yield "number and code", {IT: number, "_space_group_IT_coordinate_system_code": one.choice}
    letter = {"1": " S", "2": " Z", "H": " H", "R": " R"}.get(one.choice)
    if letter:
        yield "with a letter", {HM: short + letter}


def fitting(one: Setting, names: dict[str, str]) -> int:
    """How many settings the same names fit, of those whose symmetry this one's cell has."""
    _, metric = cell_of(one)
    wanted = sorted(names.items())
    others = same_names()[tuple(wanted)]
    if len(others) == 1:
        return 1
    turned = ((other, other.rotations.transpose(0, 2, 1) @ metric @ other.rotations) for other in others)
    return len({other.key for other, metrics in turned if np.allclose(metrics, metric, rtol=1e-6, atol=1e-6)})


@cache
def same_names() -> dict[tuple[tuple[str, str], ...], list[Setting]]:
    found: dict[tuple[tuple[str, str], ...], list[Setting]] = {}
    for one in settings():
        for _, names in spellings(one):
            found.setdefault(tuple(sorted(names.items())), []).append(one)
    return found


def test_every_spelling_of_every_setting_is_read_right_or_refused(
    capsys: pytest.CaptureFixture[str], a_third: Callable[[Iterable[Setting]], list[Setting]]
) -> None:
    chosen = a_third(settings())
    counts: dict[str, Counter[str]] = {"one": Counter(), "several": Counter()}
    wrong, refused = [], []
    for setting in chosen:
        for what, names in spellings(setting):
            found = outcome(setting, names)
            fits = "one" if fitting(setting, names) == 1 else "several"
            counts[fits][found] += 1
            if found == "wrong":
                wrong.append((what, names))
            elif found == "refused" and fits == "one":
                refused.append((what, names))
    with capsys.disabled():
        for fits, count in counts.items():
            sys.stdout.write(
                f"\nspellings that fit {fits} setting{'s' if fits == 'several' else ' alone'}: "
                f"{count['right']} right, {count['refused']} refused, {count['wrong']} silently wrong"
            )
    assert wrong == []
    assert counts["one"]["refused"] <= MOST_REFUSED * counts["one"].total(), refused[:20]
    assert counts["one"]["right"] > 6_000 * len(chosen) / len(settings())
    assert counts["several"]["right"] + counts["several"]["refused"] > 0
