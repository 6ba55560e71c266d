"""What every replica finds of a prediction at once: a record goes there and back, its answer as it was written."""

import pytest

from app.serving.history.recent import RecentRecord, StoredInput, read_record, write_record
from app.storage.rows import JsonDocument

HEAD: dict[str, object] = {"prediction_id": "7", "status": "done", "progress": 1.0}


@pytest.mark.parametrize("answer", [None, JsonDocument({"barrier_ev": 0.5, "hops": [1, 2]})])
@pytest.mark.parametrize("packed", [None, b"\x00\xff"])
def test_a_record_goes_there_and_back(answer: JsonDocument | None, packed: bytes | None) -> None:
    stored = StoredInput(model_name="small", model_digest="ab", packed=packed)
    content = write_record(RecentRecord(key_id="alice", head=HEAD, answer=answer, stored=stored))
    if answer is not None:
        assert answer.text in content, "it was written anew"
    found = read_record(content)
    assert (found.key_id, found.stored) == ("alice", stored)
    assert found.document == {**HEAD, **(answer or {})}
