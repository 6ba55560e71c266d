"""Warnings on the hops that were found."""

from app.crystals.crystal import FULL_OCCUPANCY_TOLERANCE
from app.crystals.sites.filling import CROWDED_ANGSTROM
from app.crystals.sites.ion_sites import Sublattices, is_mixed
from app.crystals.sites.ordering import OrderingMethod
from app.crystals.sites.oxidation import usual_charge
from app.crystals.sites.soundness import BondFaults

#: Below this occupancy the ion counts as dilute, as in hosts that are computed with a single ion.
FEW_SHARE = 0.5
#: In 14 of 200 crystals with lithium the shortest open hop is longer than this, angstrom.
LONG_HOP_ANGSTROM = 4.5


def count_warnings(
    ion: str, orbit_count: int, *, max_hop_angstrom: float, max_hops: int, between_all: bool
) -> tuple[str, ...]:
    """Warn of no hops, or too many; `between_all` is whether interstitial sites were included."""
    if not orbit_count:
        or_else = "" if between_all else ", or for interstitials=true, which looks for sites between them"
        sentence = (
            f"No two {ion} sites lie within {max_hop_angstrom:g} angstrom of each other: no hop. Ask for a longer "
            f"max_hop_angstrom{or_else}."
        )
        return (sentence,)
    if orbit_count > max_hops:
        sentence = (
            f"The crystal has {orbit_count} distinct hops and the {max_hops} shortest were predicted, so the "
            f"percolation barriers are upper bounds. max_hops={orbit_count} asks for all; where that is more than the "
            "service predicts at once, with `Prefer: respond-async`."
        )
        return (sentence,)
    return ()


def long_hop_warnings(ion: str, shortest_hop_angstrom: float | None) -> tuple[str, ...]:
    """Ask whether there are sites between those of the file, given the shortest open hop; None where none is open."""
    if shortest_hop_angstrom is None or shortest_hop_angstrom <= LONG_HOP_ANGSTROM:
        return ()
    sentence = (
        f"The shortest open hop is {shortest_hop_angstrom:.1f} angstrom long. Where {ion} also sits between the sites "
        "of the file, as where part of it was taken out of the crystal, ask for interstitials=true, which adds such "
        "sites."
    )
    return (sentence,)


def bond_warnings(faults: BondFaults) -> tuple[str, ...]:
    """Warn of what bonds show to be wrong, and ask for what may have caused it."""
    warnings = []
    if (share := faults.strained_share) is not None:
        warnings.append(
            f"Atoms are unusually {'far from' if share < 1.0 else 'near'} each other: bond valences add up to "
            f"{share:.0%} of the oxidation states in the mean, where crystals have 50 to 107 %. Are the lengths of the "
            "cell right, and in angstrom? Nothing is in the domain."
        )
    if faults.swapped is not None:
        swapped = faults.swapped
        warnings.append(
            f"Bonds of {swapped.overbonded} add up to {swapped.overbonded_share:.0%} of its oxidation state and those "
            f"of {swapped.underbonded} to {swapped.underbonded_share:.0%}: are the two elements swapped in the file? "
            "Nothing is in the domain."
        )
    if faults.overbonded is not None:
        site = faults.overbonded
        place = ", ".join(f"{x:.4f}" for x in site.frac_coords)
        warnings.append(
            f"Bonds of {site.symbol} at ({place}) add up to {site.share:.0%} of its oxidation state: is this position, "
            "or one beside it, right, and its element? Nothing is in the domain."
        )
    if (missing := faults.missing_charge) is not None and missing > 0.0:
        warnings.append(
            f"Positive charge is missing, {missing:.2f} per atom, though each element has its highest oxidation state: "
            "are all atoms listed, hydrogen and cations too, and no more anions than there are? Nothing is in the "
            "domain."
        )
    elif missing is not None:
        warnings.append(
            f"Negative charge is missing, {-missing:.2f} per atom, though each element has its lowest usual oxidation "
            "state: are all anions listed, and is each atom of the right element? Nothing is in the domain."
        )
    return tuple(warnings)


def bond_doubts(faults: BondFaults) -> tuple[str, ...]:
    """The same as reasons why a crystal's hops are out of the domain."""
    doubts = []
    if (share := faults.strained_share) is not None:
        how = "long" if share < 1.0 else "short"
        doubts.append(f"its bonds are too {how} for a crystal's: they add up to {share:.0%} of the oxidation states")
    if faults.swapped is not None:
        both = f"{faults.swapped.overbonded} and {faults.swapped.underbonded}"
        doubts.append(f"{both} seem to be swapped in the file: the first is overbonded, the second underbonded")
    if faults.overbonded is not None:
        doubts.append(f"an atom is out of place or of another element: {faults.overbonded.symbol} is overbonded")
    if (missing := faults.missing_charge) is not None:
        sign = "positive" if missing > 0.0 else "negative"
        doubts.append(f"atoms seem to be missing: it lacks a {sign} charge of {abs(missing):.2f} per atom")
    return tuple(doubts)


def mechanism_warnings(lattices: Sublattices, *, asked: str, absent: bool) -> tuple[str, ...]:
    """Name the mechanism where the other one is common too: for multivalent ions, and for dilute ones."""
    ion = lattices.ion
    if absent:
        shared = any(site.shared_with for site in lattices.sites)
        where = "interstitial sites or empty shares of the host's" if shared else "its interstitial sites"
        return (f"There is no {ion} in the uploaded crystal: one {ion} alone hops between {where}.",)
    own = lattices.occupancies[lattices.occupancies > 0]
    if asked != "auto" or (own.mean() >= FEW_SHARE and abs(usual_charge(ion)) == 1):
        return ()
    sentence = (
        f"The mechanism is vacancy, as {ion} is part of the uploaded crystal: its other {ion} ions stay and one is "
        f"missing. Ask for `mechanism=dilute` where the host is empty but for the {ion} that hops."
    )
    return (sentence,)


def occupancy_warnings(lattices: Sublattices) -> tuple[str, ...]:
    """Explain how the other ions were placed on partly occupied sites."""
    own = lattices.occupancies[lattices.occupancies > 0]
    partly = int((own <= 1.0 - FULL_OCCUPANCY_TOLERANCE).sum())
    if not partly:
        return ()
    ion = lattices.ion
    sentence = (
        f"{partly} of {len(own)} {ion} sites are partly occupied: each hop sees as many other {ion} as the "
        f"formula has, on the sites of highest occupancy, none within {CROWDED_ANGSTROM:g} angstrom of another."
    )
    return (sentence,)


def disorder_warnings(lattices: Sublattices, method: OrderingMethod, count: int, fillings: int) -> tuple[str, ...]:
    """Explain which sites were ordered and how, and that other atoms close an ion's shared sites."""
    mixed = sum(is_mixed(contents) for contents in lattices.host_contents)
    shared = sum(bool(site.shared_with) for site in lattices.sites)
    sites = " and ".join(
        f"{number} of the {what}"
        for number, what in ((mixed, "host's sites"), (shared, f"{lattices.ion} sites"))
        if number
    )
    how = (
        "the ordering of lowest electrostatic energy was predicted"
        if method == "lowest-energy"
        else f"{count} random ordering{'s were' if count > 1 else ' was'} predicted and averaged (`disorder` has each)"
    )
    sentence = (
        f"Shared between elements or partly empty are {sites}: {how}; equivalent hops are those of the average crystal."
    )
    closed = (
        f" Percolation is over {fillings} fillings of these sites, in which another atom closes its site."
        if shared
        else ""
    )
    return (sentence + closed,)
