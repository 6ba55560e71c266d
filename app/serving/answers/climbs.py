"""What a hop counts in percolation: its barrier; outside the model's domain, the mean with a climb by bond valence."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from app.crystals.band import FloatArray
from app.crystals.charged_host import ChargedHost
from app.crystals.hops.search import Hop, HopSearch
from app.models.bond_valence.walks import walk_energies
from app.models.prediction import Prediction

#: The weight of the model's barrier beside that of bond valence: their plain mean, chosen and not fitted.
MODEL_SHARE = 0.5
#: An atom of the host nearer than this to the ion on its way is not there at that time: no hop that is predicted passes
#: one so near, so that it shares a place with the ion.
GIVES_WAY_ANGSTROM = 1.2


@dataclass(frozen=True, kw_only=True, eq=False)
class Climbs:
    """Energies of the ion by bond valence, relative to the mean of the sites that it has in the file.

    Attributes:
        sites_ev: on each site, shape [n_sites], eV.
        saddles_ev: the highest of each distinct hop, shape [n_hops], eV; nan where it is in the domain.
    """

    sites_ev: FloatArray
    saddles_ev: FloatArray

    def shift_ev(self, hop: Hop, index: int) -> float:
        """What is added to a share of a hop's barrier, see `docs/percolation.md`.

        Sites below zero are filled and those above are empty. An ion that leaves a filled site starts at that site's
        energy; one that comes to a filled site finds it empty as often as that site's energy allows; from an empty
        site it starts at zero.
        """
        ends = self.sites_ev[[hop.from_site, hop.to_site]]
        occupied = float(-np.minimum(ends, 0.0).sum())
        model = float(ends.min())
        return MODEL_SHARE * model + (1.0 - MODEL_SHARE) * float(self.saddles_ev[index]) + occupied


def climbs(search: HopSearch, predictions: Sequence[Prediction | None]) -> Climbs | None:
    """Find the energies of a crystal's sites, and of its hops outside the domain, by bond valence.

    Returns:
        None where all hops are in the domain, or there are no parameters.
    """
    outside = [k for k, one in enumerate(predictions) if one is not None and not one.in_domain]
    if search.host is None or not outside:
        return None
    coords = np.array([site.frac_coords for site in search.sites])
    hops = [search.hops[k] for k in outside]
    starts = coords[[hop.from_site for hop in hops]]
    ends = coords[[hop.to_site for hop in hops]] + np.array([hop.offset for hop in hops])
    found = walk_energies(
        (
            [_giving_way(search.host, place[None]) for place in coords],
            [_giving_way(search.host, np.linspace(start, end, 9)) for start, end in zip(starts, ends, strict=True)],
        ),
        coords,
        starts,
        ends,
    )
    own = [site.index for site in search.sites if not site.is_interstitial] or list(range(len(coords)))
    zero = float(found.sites_ev[own].mean())
    sites = found.sites_ev - zero
    saddles = np.full(len(search.hops), np.nan)
    saddles[outside] = found.saddles_ev - zero
    for k in outside:  # a relaxed end may be a little above the straight path's
        hop = search.hops[k]
        saddles[k] = max(saddles[k], sites[hop.from_site], sites[hop.to_site])
    return Climbs(sites_ev=sites, saddles_ev=saddles)


def climbing(
    search: HopSearch, found: Climbs | None, predictions: Sequence[Prediction | None]
) -> list[Prediction | None]:
    """What the hops count in percolation: those in the domain their own prediction, the others with the climb's mean.

    The width of a distribution, that outside the domain, is kept.
    """
    return [
        one
        if one is None or one.in_domain or found is None
        else _shifted(one, climb_ev(one.barrier_ev, found.shift_ev(hop, index)))
        for index, (hop, one) in enumerate(zip(search.hops, predictions, strict=True))
    ]


def climb_ev(barrier_ev: float, shift_ev: float) -> float:
    """The climb of a hop from its barrier."""
    return MODEL_SHARE * barrier_ev + shift_ev


def _shifted(prediction: Prediction, barrier_ev: float) -> Prediction:
    by = barrier_ev - prediction.barrier_ev
    quantiles = tuple(max(0.0, quantile + by) for quantile in prediction.quantiles_ev)
    return replace(prediction, barrier_ev=barrier_ev, quantiles_ev=quantiles)


def _giving_way(host: ChargedHost, path_frac: FloatArray) -> ChargedHost:
    """The host without the atoms that are in the ion's place, somewhere along a path of shape [n_points, 3]."""
    morse, coulomb = (
        _nearest_angstrom(coords, path_frac, host.lattice_angstrom) >= GIVES_WAY_ANGSTROM
        for coords in (host.morse_frac_coords, host.coulomb_frac_coords)
    )
    if morse.all() and coulomb.all():
        return host
    return ChargedHost(
        lattice_angstrom=host.lattice_angstrom,
        morse_frac_coords=host.morse_frac_coords[morse],
        morse=host.morse[morse],
        coulomb_frac_coords=host.coulomb_frac_coords[coulomb],
        coulomb=host.coulomb[coulomb],
    )


def _nearest_angstrom(coords: FloatArray, path_frac: FloatArray, lattice_angstrom: FloatArray) -> FloatArray:
    """From each atom to the nearest point of a path, shape [n_atoms]; exact where it is short."""
    apart = coords[:, None] - path_frac[None]
    apart = (apart - np.rint(apart)) @ lattice_angstrom
    return np.asarray(np.linalg.norm(apart, axis=2).min(axis=1, initial=np.inf))
