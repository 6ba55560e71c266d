"""How an answer is replied: as it is logged, for a classification with its verdict first."""

import orjson

from app.api.predict import verdict_on_top
from app.serving.service import JsonDocument


def test_a_classification_is_the_answer_with_its_verdict_at_the_top() -> None:
    good = {"verdict": True, "probability": 0.75, "threshold_ev": 0.65}
    answer = {"barrier_ev": 0.5, "good_conductor": good, "warnings": ['a "quoted" word, and a brace {']}
    document = JsonDocument(answer)
    text = verdict_on_top(document)
    assert text.endswith(document.text[1:]), "the answer is written once"
    top = {**good, "probability_above_1e-4_s_per_cm": None}
    assert list(orjson.loads(text)) == [*top, *answer]
    assert orjson.loads(text) == {**top, **answer}
