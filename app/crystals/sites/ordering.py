"""Orderings: which atom sits where on the shared and partly empty sites of a host."""

import itertools
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Literal

import numpy as np

from app.crystals.band import FloatArray, IntArray
from app.crystals.crystal import Contents
from app.crystals.geometry.contacts import may_be_bonded
from app.crystals.geometry.periodic import near_pairs, position_order
from app.crystals.sites.electrostatics import pair_energies_ev
from app.crystals.sites.ion_sites import is_mixed, shown_site
from app.crystals.sites.supercell import Supercell
from app.errors import InputError

#: So many arrangements are few: the energy of each is computed.
FEW_ARRANGEMENTS = 2_000
#: Ewald sums over more sites take too long for an upload.
MOST_SITES_SUMMED = 400
#: Two places of the host nearer than this are never filled both, but for atoms that are bonded to each other.
EXCLUSIVE_ANGSTROM = 1.5
#: Arrangements whose energies differ by less are one to electrostatics.
SAME_ENERGY_EV = 1e-3
#: A sample that had to leave out more of the shared sites' atoms than this is none.
MOST_LEFT_OUT = 0.1
SEED = 2024
#: Seeds that are tried for each sample, as two may give one arrangement.
_SEEDS_EACH = 5
#: Shuffles that are tried until no two atoms crowd each other.
_TRIES = 20
#: Sites named one by one in an error; the rest are counted.
_NAMED_SITES = 6
#: Occupancies nearer than this are of one kind of site.
_OCCUPANCY_STEP = 0.01

OrderingMethod = Literal["lowest-energy", "samples"]


@dataclass(frozen=True, kw_only=True, eq=False)
class Ordering:
    """One way to fill the disordered places of a supercell.

    Attributes:
        places: the disordered places.
        filled: the element on each place, None where it is empty of the host's atoms, length n_places.
        energy_ev: its electrostatic energy above the highest of those compared, eV; None where it is a sample.
    """

    places: "Places"
    filled: tuple[str | None, ...]
    energy_ev: float | None

    def freed(self, ions: set[int]) -> "Ordering":
        """The same with the atoms on some of the ion's sites put elsewhere, or taken out where there is no room.

        Args:
            ions: indices of the ion's sites in the supercell, both ends of a hop.
        """
        filled = list(self.filled)
        taken = [k for k, ion in enumerate(self.places.ion_sites) if ion in ions and filled[k] is not None]
        for place in taken:
            free = [
                k
                for k in map(int, np.flatnonzero(self.places.kinds == self.places.kinds[place]))
                if filled[k] is None
                and self.places.ion_sites[k] not in ions
                and not any(filled[other] is not None for other in self.places.neighbours[k] if other != place)
            ]
            if free:
                filled[free[0]] = filled[place]
            filled[place] = None
        return Ordering(places=self.places, filled=tuple(filled), energy_ev=self.energy_ev)

    @property
    def atoms(self) -> tuple[tuple[str, ...], FloatArray]:
        """Element symbols and fractional coordinates in the supercell of what was placed, shape [n, 3]."""
        rows = [k for k, symbol in enumerate(self.filled) if symbol is not None]
        symbols = tuple(symbol for symbol in self.filled if symbol is not None)
        return symbols, self.places.frac_coords[rows]


@dataclass(frozen=True, kw_only=True, eq=False)
class Places:
    """The disordered places of a supercell: the host's mixed sites, then the ion's sites that are shared.

    Those of a kind stand together, in the order of their positions, so that nothing that is chosen by number, such as a
    random sample, depends on the order of the file.

    Attributes:
        frac_coords: shape [n, 3], in the supercell.
        contents: what shares each, the migrating ion left out.
        kinds: places with equal contents have one number, shape [n].
        ion_sites: for each its index among the ion's sites; -1 where it is one of the host.
        neighbours: for each the places that are never filled together with it.
        fixed_species: the elements on the host's other sites.
        fixed_frac_coords: their coordinates in the supercell, shape [n_fixed, 3].
    """

    frac_coords: FloatArray
    contents: tuple[Contents, ...]
    kinds: IntArray
    ion_sites: tuple[int, ...]
    neighbours: tuple[tuple[int, ...], ...]
    fixed_species: tuple[str, ...]
    fixed_frac_coords: FloatArray

    @cached_property
    def quotas(self) -> dict[int, dict[str, int]]:
        """Whole atoms of each element on the places of each kind, by largest remainder."""
        return {
            int(kind): _quota(self.contents[np.argmax(self.kinds == kind)], self.count(kind))
            for kind in np.unique(self.kinds)
        }

    def count(self, kind: int) -> int:
        """How many places are of a kind."""
        return int(np.count_nonzero(self.kinds == kind))

    @cached_property
    def arrangements(self) -> float:
        """How many ways there are to fill them."""
        logarithm = 0.0
        for kind, quota in self.quotas.items():
            count = self.count(kind)
            empty = count - sum(quota.values())
            logarithm += math.lgamma(count + 1) - sum(math.lgamma(n + 1) for n in (*quota.values(), empty))
        return math.exp(min(logarithm, 700.0))


@dataclass(frozen=True, kw_only=True, eq=False)
class Orderings:
    """Finds and keeps the orderings of one crystal in each supercell that its hops need.

    Attributes:
        ion: element symbol of the migrating ion.
        states: the oxidation state of each element; None where they could not be guessed.
        most: most orderings.
    """

    ion: str
    states: Mapping[str, int] | None
    most: int
    _found: dict[Supercell, tuple[Ordering, ...]] = field(default_factory=dict, init=False)

    def of(self, supercell: Supercell) -> tuple[Ordering, ...]:
        """The orderings of a supercell; a single one, with nothing to place, where its host is ordered.

        Raises:
            InputError: places that cannot be filled as the occupancies say are named, site by site ("mixed-sites").
        """
        if supercell not in self._found:  # by identity; being a key keeps it alive, so that no other takes its place
            self._found[supercell] = self._find(supercell)
        return self._found[supercell]

    def _find(self, supercell: Supercell) -> tuple[Ordering, ...]:
        places = disordered_places(supercell)
        if not len(places.contents):
            return (Ordering(places=places, filled=(), energy_ev=None),)
        if places.arrangements <= FEW_ARRANGEMENTS and self.states is not None:
            lowest = _lowest(places, supercell, self.ion, self.states)
            if lowest is not None:
                return (lowest,)
        samples: dict[tuple[str | None, ...], Ordering] = {}
        for seed in range(_SEEDS_EACH * self.most):
            sample = _sample(places, seed, supercell)
            samples.setdefault(sample.filled, sample)
            if len(samples) == self.most:
                break
        return tuple(samples.values())


def disordered_places(supercell: Supercell) -> Places:
    """List the places of a supercell that more than one arrangement fills."""
    mixed = [is_mixed(contents) for contents in supercell.host_contents]
    host, fixed = ([k for k, one in enumerate(mixed) if one is wanted] for wanted in (True, False))
    shared = [k for k, contents in enumerate(supercell.shared_with) if contents]
    contents = [supercell.host_contents[k] for k in host] + [supercell.shared_with[k] for k in shared]
    coords = np.vstack([supercell.host_frac_coords[host], supercell.ion_frac_coords[shared]])
    keys = [
        (k >= len(host), tuple(sorted((symbol, round(amount / _OCCUPANCY_STEP)) for symbol, amount in content)))
        for k, content in enumerate(contents)
    ]
    numbers = {key: number for number, key in enumerate(sorted(set(keys)))}
    kinds = np.array([numbers[key] for key in keys], dtype=np.int64)
    order = position_order(coords, kinds)
    ion_sites = [*[-1] * len(host), *shared]
    coords, kinds = coords[order], kinds[order]
    contents, ion_sites = [contents[k] for k in order], [ion_sites[k] for k in order]
    neighbours: list[list[int]] = [[] for _ in contents]
    if contents:
        elements = [tuple(symbol for symbol, _ in content) for content in contents]
        pairs, lengths = near_pairs(coords, None, supercell.lattice_angstrom, EXCLUSIVE_ANGSTROM)
        for (i, j), length in zip(pairs, lengths, strict=True):
            if may_be_bonded(elements[i], elements[j], float(length)):
                continue
            neighbours[i].append(int(j))
            neighbours[j].append(int(i))
    return Places(
        frac_coords=coords,
        contents=tuple(contents),
        kinds=kinds,
        ion_sites=tuple(ion_sites),
        neighbours=tuple(tuple(others) for others in neighbours),
        fixed_species=tuple(supercell.host_contents[k][0][0] for k in fixed),
        fixed_frac_coords=supercell.host_frac_coords[fixed],
    )


def _quota(contents: Contents, count: int) -> dict[str, int]:
    total = max(1.0, sum(amount for _, amount in contents))
    shares = {symbol: amount / total * count for symbol, amount in contents}
    shares[""] = count - sum(shares.values())
    whole = {symbol: int(share) for symbol, share in shares.items()}
    by_remainder = sorted(shares, key=lambda symbol: (whole[symbol] - shares[symbol], symbol))
    for symbol in by_remainder[: count - sum(whole.values())]:
        whole[symbol] += 1
    return {symbol: number for symbol, number in whole.items() if symbol and number}


def _lowest(places: Places, supercell: Supercell, ion: str, states: Mapping[str, int]) -> Ordering | None:
    """The arrangement of lowest electrostatic energy; None where that cannot be computed."""
    ordered = [k for k, contents in enumerate(supercell.host_contents) if not is_mixed(contents)]
    others = [k for k, contents in enumerate(supercell.shared_with) if not contents]
    coords = np.vstack([places.frac_coords, supercell.host_frac_coords[ordered], supercell.ion_frac_coords[others]])
    if len(coords) > MOST_SITES_SUMMED:
        return None
    rows = list(_arrangements(places))
    if not rows:
        return None
    # on a shared place that no atom of the host fills, and on all others of its sites, the ion is a mean charge
    empty = [
        0.0 if site < 0 else states.get(ion, 0) * supercell.occupancies[site] / max(1e-9, 1.0 - _amount(contents))
        for site, contents in zip(places.ion_sites, places.contents, strict=True)
    ]
    charges = np.array(
        [[empty[k] if symbol is None else float(states[symbol]) for k, symbol in enumerate(row)] for row in rows]
    )
    fixed = [float(states[supercell.host_contents[k][0][0]]) for k in ordered]
    fixed += [states.get(ion, 0) * float(supercell.occupancies[k]) for k in others]
    charges = np.hstack([charges, np.tile(fixed, (len(rows), 1))])
    energies = np.einsum(
        "ri,ij,rj->r", charges, pair_energies_ev(supercell.lattice_angstrom, coords), charges, optimize=True
    )
    if len(rows) > 1 and np.ptp(energies) < SAME_ENERGY_EV:
        return None
    best = int(np.flatnonzero(energies < energies.min() + SAME_ENERGY_EV)[0])
    return Ordering(places=places, filled=rows[best], energy_ev=float(energies[best] - energies.max()))


def _amount(contents: Contents) -> float:
    return min(1.0, sum(amount for _, amount in contents))


def _arrangements(places: Places) -> Iterator[tuple[str | None, ...]]:
    """Every way to fill the places in which no two exclusive ones are filled."""
    kinds = sorted(places.quotas)
    rows = [np.flatnonzero(places.kinds == kind) for kind in kinds]
    ways = [list(_fillings(len(row), places.quotas[kind])) for kind, row in zip(kinds, rows, strict=True)]
    for choice in itertools.product(*ways):
        filled: list[str | None] = [None] * len(places.contents)
        for row, way in zip(rows, choice, strict=True):
            for place, symbol in zip(row, way, strict=True):
                filled[place] = symbol
        if not _crowded(places, filled):
            yield tuple(filled)


def _fillings(count: int, quota: Mapping[str, int]) -> Iterator[tuple[str | None, ...]]:
    """Every distinct way to put so many atoms of each element on a number of places."""

    def fill(free: tuple[int, ...], left: Sequence[tuple[str, int]]) -> Iterator[dict[int, str]]:
        if not left:
            yield {}
            return
        (symbol, number), *rest = left
        for chosen in itertools.combinations(free, number):
            remaining = tuple(place for place in free if place not in chosen)
            for others in fill(remaining, rest):
                yield {**others, **dict.fromkeys(chosen, symbol)}

    for placed in fill(tuple(range(count)), sorted(quota.items())):
        yield tuple(placed.get(place) for place in range(count))


def _crowded(places: Places, filled: Sequence[str | None]) -> bool:
    return any(
        filled[k] is not None and any(filled[other] is not None for other in others)
        for k, others in enumerate(places.neighbours)
    )


def _sample(places: Places, seed: int, supercell: Supercell) -> Ordering:
    """A random arrangement, the same for the same seed.

    Raises:
        InputError: too much could not be placed ("mixed-sites").
    """
    generator = np.random.default_rng([SEED, seed])
    best: tuple[int, list[str | None]] | None = None
    for _ in range(_TRIES):
        filled: list[str | None] = [None] * len(places.contents)
        left_out = 0
        for kind, quota in places.quotas.items():
            order = list(generator.permutation(np.flatnonzero(places.kinds == kind)))
            for symbol, number in sorted(quota.items()):
                left_out += number - _place(places, filled, order, symbol, number)
        if best is None or left_out < best[0]:
            best = left_out, filled
        if not left_out:
            break
    assert best is not None
    wanted = sum(number for quota in places.quotas.values() for number in quota.values())
    if best[0] > MOST_LEFT_OUT * wanted:
        raise _cannot_be_ordered(places, best[1], supercell)
    return Ordering(places=places, filled=tuple(best[1]), energy_ev=None)


def _place(places: Places, filled: list[str | None], order: list[int], symbol: str, number: int) -> int:
    """Put atoms of an element on the first places with room, and say how many found one."""
    done = 0
    for place in list(order):
        if done == number:
            break
        if any(filled[other] is not None for other in places.neighbours[place]):
            continue
        filled[place] = symbol
        order.remove(place)
        done += 1
    return done


def _cannot_be_ordered(places: Places, filled: Sequence[str | None], supercell: Supercell) -> InputError:
    """The error that names the sites which no arrangement fills as their occupancies say."""
    short = sorted(
        {
            kind
            for kind, quota in places.quotas.items()
            if sum(quota.values()) > sum(symbol is not None for symbol in np.array(filled)[places.kinds == kind])
        }
    )
    cell = supercell.motif.uploaded_cell @ supercell.motif.lattice_angstrom
    uploaded = places.frac_coords @ supercell.lattice_angstrom @ np.linalg.inv(cell)
    named = {
        shown_site(places.contents[k], np.round(uploaded[k] % 1.0, 3) % 1.0)
        for k in range(len(filled))
        if places.kinds[k] in short
    }
    names = sorted(named)
    more = f", and {len(names) - _NAMED_SITES} more" if len(names) > _NAMED_SITES else ""
    return InputError(
        f"These sites are shared or partly empty, and cannot be filled as their occupancies say without two atoms "
        f"nearer than {EXCLUSIVE_ANGSTROM:g} angstrom to each other: {'; '.join(names[:_NAMED_SITES])}{more}.",
        kind="mixed-sites",
        where="structure",
        expected="one atom of each group of places that exclude each other, or an ordered crystal",
    )
