"""Rows held in memory, and how many bytes they take."""

from collections.abc import Iterable
from uuid import UUID

from app.storage.rows import JsonDocument, PredictionRow

#: A row without its input and answer.
_ROW_BYTES = 2_000


class HeldRows:
    """Rows by id, in the order of their coming; a row that comes again takes the old one's place."""

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
        """Hold a row."""
        old = self._rows.get(row.id)
        self._rows[row.id] = row
        self.bytes += bytes_of(row) - (0 if old is None else bytes_of(old))

    def get(self, prediction_id: UUID) -> PredictionRow | None:
        """The row, or None where it is not held."""
        return self._rows.get(prediction_id)

    def pop(self, prediction_id: UUID) -> PredictionRow | None:
        """Let a row go; None where it is not held."""
        row = self._rows.pop(prediction_id, None)
        if row is not None:
            self.bytes -= bytes_of(row)
        return row

    def rows(self) -> list[PredictionRow]:
        """All of them, those that came first at the front."""
        return list(self._rows.values())

    def clear(self) -> None:
        """Let all go."""
        self._rows.clear()
        self.bytes = 0


def bytes_of(row: PredictionRow) -> int:
    """About how many bytes a row takes in memory."""
    answer = row.answer or {}
    answer_bytes = len(answer.text) if isinstance(answer, JsonDocument) else len(str(answer))
    return _ROW_BYTES + len(row.input_blob or b"") + answer_bytes
