"""Symbols of the elements, and the errors for unknown symbols and for elements outside the networks' tables."""

import re

from app.errors import InputError

SYMBOLS = tuple(
    symbol
    for period in (
        "H He Li Be B C N O F Ne Na Mg Al Si P S Cl Ar K Ca Sc Ti V Cr Mn Fe Co Ni Cu Zn Ga Ge As Se Br Kr",
        "Rb Sr Y Zr Nb Mo Tc Ru Rh Pd Ag Cd In Sn Sb Te I Xe Cs Ba La Ce Pr Nd Pm Sm Eu Gd Tb Dy Ho Er Tm Yb Lu",
        "Hf Ta W Re Os Ir Pt Au Hg Tl Pb Bi Po At Rn Fr Ra Ac Th Pa U Np Pu Am Cm Bk Cf Es Fm Md No Lr",
        "Rf Db Sg Bh Hs Mt Ds Rg Cn Nh Fl Mc Lv Ts Og",
    )
    for symbol in period.split()
)
_KNOWN = frozenset(SYMBOLS)
#: The networks' tables of elements end at fermium.
LAST_COVERED = 94
_COVERED = frozenset(SYMBOLS[:LAST_COVERED])
#: Isotopes with symbols of their own, read as their element: barriers are the same.
_ISOTOPES = {"D": "H", "T": "H"}
_CHARGED = re.compile(r"([A-Z][a-z]?)(?:\d*\.?\d*[+-]\d*\.?\d*)?\Z")


def is_element(symbol: str) -> bool:
    """Whether a string is the symbol of an element."""
    return symbol in _KNOWN


def check_elements(symbols: tuple[str, ...], where: str) -> None:
    """Refuse a list of symbols with an unknown element, or one that no network covers.

    Args:
        symbols: one per site.
        where: the field; the error adds the position.

    Raises:
        InputError: kinds "unknown-element", "element-not-covered"; it names the symbol.
    """
    if not _COVERED.issuperset(symbols):
        index = next(i for i, symbol in enumerate(symbols) if symbol not in _COVERED)
        check_element(symbols[index], f"{where}[{index}]")


def check_element(symbol: str, where: str) -> None:
    """Refuse a symbol that is not an element, or one heavier than the networks cover.

    Raises:
        InputError: kinds "unknown-element", "element-not-covered"; it names the symbol.
    """
    if symbol not in _KNOWN:
        raise unknown_element(symbol, where)
    if symbol not in _COVERED:
        raise InputError(
            f"{symbol} (Z = {SYMBOLS.index(symbol) + 1}) is heavier than any element that barriers are predicted for.",
            kind="element-not-covered",
            where=where,
            expected=f"elements from {SYMBOLS[0]} (Z = 1) to {SYMBOLS[LAST_COVERED - 1]} (Z = {LAST_COVERED})",
        )


def plain_symbol(text: str, where: str) -> str:
    """The element of a symbol with an optional charge, or of an isotope ("Fe3+", "O2-", "D").

    Raises:
        InputError: kinds "unknown-element", "element-not-covered"; it names the symbol.
    """
    match = _CHARGED.match(text.strip())
    symbol = match.group(1) if match else text
    symbol = _ISOTOPES.get(symbol, symbol)
    if symbol not in _KNOWN:
        raise unknown_element(text, where)
    check_element(symbol, where)
    return symbol


def unknown_element(symbol: str, where: str) -> InputError:
    """The error for a symbol that is not an element, with a suggestion."""
    shown = symbol if len(symbol) <= 20 else f"{symbol[:20]}..."  # noqa: PLR2004 - no symbol is this long
    close = symbol[:2].capitalize()
    hint = f" Was {close} meant?" if close in _KNOWN and close != symbol else ""
    return InputError(
        f'"{shown}" is not the symbol of an element.{hint}',
        kind="unknown-element",
        where=where,
        expected="an element's symbol, such as Li",
    )
