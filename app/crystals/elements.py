"""The elements' symbols, and what to say of a symbol that is none."""

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
#: Isotopes with symbols of their own move like their element as far as a barrier goes.
_ISOTOPES = {"D": "H", "T": "H"}
_CHARGED = re.compile(r"([A-Z][a-z]?)(?:\d*\.?\d*[+-]\d*\.?\d*)?\Z")


def is_element(symbol: str) -> bool:
    """Whether a string is exactly an element's symbol."""
    return symbol in _KNOWN


def check_elements(symbols: tuple[str, ...], where: str) -> None:
    """Refuse symbols of which one is no element.

    Args:
        symbols: one a site.
        where: the field; the error adds the position.

    Raises:
        InputError: kind "unknown-element"; it names the symbol.
    """
    if not _KNOWN.issuperset(symbols):
        index = next(i for i, symbol in enumerate(symbols) if symbol not in _KNOWN)
        raise unknown_element(symbols[index], f"{where}[{index}]")


def plain_symbol(text: str, where: str) -> str:
    """The element of a symbol that may carry a charge or name an isotope ("Fe3+", "O2-", "D").

    Raises:
        InputError: kind "unknown-element"; it names the symbol.
    """
    match = _CHARGED.match(text.strip())
    symbol = match.group(1) if match else text
    symbol = _ISOTOPES.get(symbol, symbol)
    if symbol not in _KNOWN:
        raise unknown_element(text, where)
    return symbol


def unknown_element(symbol: str, where: str) -> InputError:
    """The error that names a symbol that is no element, with the one that may have been meant."""
    shown = symbol if len(symbol) <= 20 else f"{symbol[:20]}..."  # noqa: PLR2004 - no symbol is this long
    close = symbol[:2].capitalize()
    hint = f" Was {close} meant?" if close in _KNOWN and close != symbol else ""
    return InputError(
        f'"{shown}" is not the symbol of an element.{hint}',
        kind="unknown-element",
        where=where,
        expected="an element's symbol, such as Li",
    )
