"""Numbers as other programs write them, those of Fortran ("1.0D-1") among them."""

import math

#: A pattern for one. Possessive quantifiers (++) do not backtrack: otherwise time grows with the cube of the digits.
NUMBER = r"[-+]?+(?:\d++\.?+\d*+|\.\d++)(?:[eEdD][-+]?+\d++)?+"


def with_e(text: str) -> str:
    """A number with the exponent as Python reads it."""
    return text.replace("d", "e").replace("D", "e")


def number_of(text: str) -> float:
    """The value of a number; NaN of anything else."""
    try:
        return float(with_e(text))
    except ValueError:
        return math.nan
