"""Rows buffered in memory, with their size in bytes."""

from collections.abc import Iterable
from uuid import UUID

from app.storage.rows import JsonDocument, PredictionRow

#: Size of a row without its input and answer.
_ROW_BYTES = 2_000


class HeldRows:
    """Rows by id, in order of arrival; a row with the id of an earlier one replaces it in place."""

    def __init__(self, rows: Iterable[PredictionRow] = ()) -> None:
        self._rows: dict[UUID, PredictionRow] = {}
        self.bytes = 0
        for row in rows:
            self.put(row)

    def __len__(self) -> int:
        return len(self._rows)

    def __contains__(self, prediction_id: UUID) -> bool:
        return prediction_id in self._rows

    def put(self, row: PredictionRow) -> None:
        """Add or replace a row."""
        old = self._rows.get(row.id)
        self._rows[row.id] = row
        self.bytes += bytes_of(row) - (0 if old is None else bytes_of(old))

    def get(self, prediction_id: UUID) -> PredictionRow | None:
        """The row of an id, or None."""
        return self._rows.get(prediction_id)

    def pop(self, prediction_id: UUID) -> PredictionRow | None:
        """Remove and return a row; None where there is none."""
        row = self._rows.pop(prediction_id, None)
        if row is not None:
            self.bytes -= bytes_of(row)
        return row

    def rows(self) -> list[PredictionRow]:
        """All rows, oldest first."""
        return list(self._rows.values())

    def clear(self) -> None:
        """Remove all rows."""
        self._rows.clear()
        self.bytes = 0


def bytes_of(row: PredictionRow) -> int:
    """The approximate size of a row in memory, bytes."""
    answer = row.answer or {}
    answer_bytes = len(answer.text) if isinstance(answer, JsonDocument) else len(str(answer))
    return _ROW_BYTES + len(row.input_blob or b"") + answer_bytes
