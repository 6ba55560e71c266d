"""Messages of the service as the command line shows them."""

import pytest

from app.console.printing import as_options


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("at 1.02 angstrom; include_close_hops=true predicts it", "at 1.02 angstrom; --include-close-hops predicts it"),
        ("Ask for `mechanism=dilute` where", "Ask for --mechanism dilute where"),
        ("an element symbol, such as ion=Li", "an element symbol, such as --ion Li"),
        ("version=3 of ion = Li", "version=3 of ion = Li"),
        ("max_hops=84 asks for all", "--max-hops 84 asks for all"),
        (
            "Ask for a longer max_hop_angstrom, or for interstitials=true",
            "Ask for a longer --max-hop-angstrom, or for --interstitials",
        ),
        (
            "The mechanism is vacancy, between interstitial sites",
            "The mechanism is vacancy, between interstitial sites",
        ),
        ("fewer hops (`max_hops`)", "fewer hops (--max-hops)"),
        ("the cell in the form field `cell`, such as", "the cell in --cell, such as"),
    ],
)
def test_query_parameters_are_options(text: str, shown: str) -> None:
    assert as_options(text) == shown
