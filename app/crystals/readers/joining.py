"""What to say where two end points could be joined in more than one way."""

from app.crystals.periodic import ShortestVectors

#: Periodic vectors whose lengths differ by less than this are told apart by no one.
NEARLY_EQUAL_ANGSTROM = 0.05


def ambiguity_warnings(ion: str, found: ShortestVectors) -> tuple[str, ...]:
    """Warn where a hop's two shortest periodic vectors are nearly equal.

    Args:
        ion: the migrating ion's element.
        found: the joined hop, one vector.
    """
    shortest, second = float(found.lengths_angstrom[0]), float(found.runner_up_angstrom[0])
    if second - shortest > NEARLY_EQUAL_ANGSTROM:
        return ()
    warning = (
        f"Two ways for {ion} from the first end point to a periodic copy of the second are nearly equal, "
        f"{shortest:.3f} and {second:.3f} angstrom; one was taken. Give `offset`, or images in between, to choose."
    )
    return (warning,)
