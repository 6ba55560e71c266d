"""What a list of predictions is filtered by, as a caller writes it."""

import re
from datetime import datetime
from typing import Literal, Protocol

from app.crystals.elements import is_element, plain_symbol
from app.errors import InputError
from app.storage.rows import PredictionFilter

_FORMULA = re.compile(r"(?:[A-Z][a-z]?(?:[0-9]+(?:\.[0-9]+)?)?\s*)+")
_SYMBOL = re.compile(r"[A-Z][a-z]?")
#: A formula that is longer is cut where it is quoted.
_MOST_SHOWN = 40


class ListQuery(Protocol):
    """What a list is filtered by, as it was asked; see PredictionFilter."""

    ion: str | None
    formula: str | None
    model: str | None
    status: Literal["queued", "running", "done", "failed"] | None
    kind: Literal["band", "crystal"] | None
    created_after: datetime | None
    created_before: datetime | None
    barrier_below_ev: float | None
    limit: int
    cursor: str | None


def filter_of(query: ListQuery) -> PredictionFilter:
    """The filter that a query stands for, its ion read as that of a prediction is.

    Raises:
        InputError: kinds "unknown-element", "element-not-covered" (the ion), "bad-filter".
    """
    if query.formula is not None:
        _check_formula(query.formula)
    return PredictionFilter(
        ion=None if query.ion is None else plain_symbol(query.ion, "ion"),
        formula=query.formula,
        model_name=query.model,
        status=query.status,
        kind=query.kind,
        created_after=query.created_after,
        created_before=query.created_before,
        barrier_below_ev=query.barrier_below_ev,
    )


def _check_formula(text: str) -> None:
    """Refuse what no logged formula can be: an empty list would say that there are no such predictions."""
    if _FORMULA.fullmatch(text.strip()) and all(map(is_element, _SYMBOL.findall(text))):
        return
    shown = text if len(text) <= _MOST_SHOWN else f"{text[:_MOST_SHOWN]}..."
    raise InputError(
        f'"{shown}" is not a formula: write element symbols with capitals, such as LiFePO4.',
        kind="bad-filter",
        where="formula",
        expected="element symbols and numbers, without parentheses, such as LiFePO4 or Fe4 Li3.5 O16 P4",
    )
