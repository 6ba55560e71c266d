"""A logged prediction is described with everything that the answer had."""

from app.api.log_schemas import ListedPrediction
from app.api.schemas import PredictionAnswer


def test_every_field_of_an_answer_is_described_of_a_logged_prediction_too() -> None:
    assert set(PredictionAnswer.model_fields) <= set(ListedPrediction.model_fields)
