"""What every replica finds of a prediction at once, before its row is in the log."""

from base64 import b64decode, b64encode
from collections.abc import Mapping
from dataclasses import dataclass

import orjson

from app.serving.answers.as_json import Json
from app.storage.rows import write_json


@dataclass(frozen=True, kw_only=True)
class StoredInput:
    """The input of a prediction, and the checkpoint that was asked.

    Attributes:
        model_name: the checkpoint's.
        model_digest: of the checkpoint's weights; None before it is known.
        packed: the canonical input by pack_input; None where inputs are not stored.
    """

    model_name: str
    model_digest: str | None
    packed: bytes | None


@dataclass(frozen=True, kw_only=True)
class RecentRecord:
    """One prediction on its way to the log.

    Attributes:
        key_id: of the API key it belongs to.
        head: how far it is, and its error where there is one, as JSON.
        answer: as it was replied, or None.
        stored: its input.
    """

    key_id: str | None
    head: Json
    answer: Mapping[str, object] | None
    stored: StoredInput

    @property
    def document(self) -> Json:
        """The prediction as JSON, without its input."""
        return self.head | dict(self.answer or {})


def write_record(record: RecentRecord) -> bytes:
    """A record as bytes; the input stays compressed."""
    packed = record.stored.packed
    text = None if packed is None else b64encode(packed).decode()
    stored = [record.stored.model_name, record.stored.model_digest, text]
    return write_json([record.key_id, *stored, record.head, record.answer])


def read_record(content: bytes) -> RecentRecord:
    """Give back what write_record wrote."""
    key_id, model_name, model_digest, text, head, answer = orjson.loads(content)
    return RecentRecord(
        key_id=key_id,
        head=head,
        answer=answer,
        stored=StoredInput(
            model_name=model_name,
            model_digest=model_digest,
            packed=None if text is None else b64decode(text),
        ),
    )
