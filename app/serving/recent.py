"""What every replica finds of a prediction at once, before its row is in the log."""

from base64 import b64decode, b64encode
from dataclasses import dataclass

import orjson

from app.serving.wire import Json


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
        document: the prediction as JSON, without its input.
        stored: its input.
    """

    key_id: str | None
    document: Json
    stored: StoredInput


def write_record(record: RecentRecord) -> bytes:
    """A record as bytes; the input stays compressed."""
    packed = record.stored.packed
    text = None if packed is None else b64encode(packed).decode()
    return orjson.dumps([record.key_id, record.stored.model_name, record.stored.model_digest, text, record.document])


def read_record(content: bytes) -> RecentRecord:
    """Give back what write_record wrote."""
    key_id, model_name, model_digest, text, document = orjson.loads(content)
    return RecentRecord(
        key_id=key_id,
        document=document,
        stored=StoredInput(
            model_name=model_name,
            model_digest=model_digest,
            packed=None if text is None else b64decode(text),
        ),
    )
