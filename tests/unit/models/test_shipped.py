"""The checkpoints that ship: different networks, each of which has learnt what it was fitted on."""

from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.stats import spearmanr

from app.models.cards.card import CARD_FILE, card_kind
from app.models.cards.conductivity_card import CONDUCTIVITY_KIND
from app.models.cards.property_card import PROPERTIES_KIND
from app.models.checkpoints import read_conductivity_predictor, read_predictor, read_property_predictor
from app.models.registry import Registry
from training.corpus import Corpus, read_corpus

CPU = torch.device("cpu")
FORMS = ("model-1-sum", "model-1-difference", "model-1-concat", "model-2", "model-3", "model-4", "scratch-model-3")
#: What the issue of the paper's models asks for; MODEL-1 does not see the path.
LEAST_RANK_CORRELATION = {name: 0.3 if name.startswith("model-1") else 0.6 for name in FORMS}


@pytest.fixture(scope="module")
def corpus(data_dir: Path) -> Corpus:
    return read_corpus(data_dir)


@pytest.mark.parametrize("name", FORMS)
def test_a_form_ranks_the_bands_that_it_was_fitted_on(name: str, corpus: Corpus, repository: Path) -> None:
    predictor = read_predictor(repository / "model_store" / name, device=CPU)
    rows = np.random.default_rng(11).choice(np.flatnonzero(corpus.sound), 40, replace=False)
    predictions = predictor.predict([predictor.graph(corpus.records[row].band) for row in rows])
    correlation = spearmanr([p.barrier_ev for p in predictions], corpus.barriers_ev[rows]).statistic
    assert correlation > LEAST_RANK_CORRELATION[name]


def test_each_has_a_mean_error_to_compare_it_by(repository: Path) -> None:
    registry = Registry.open(repository / "model_store", "cpu", default="default")
    assert {one.name for one in registry.others("none")} == {*FORMS, "default", "relaxed"}
    for one in registry.others("none"):
        assert one.mae_ev is not None, one.name
        assert 0.1 < one.mae_ev < 0.6


def test_all_are_different_networks(repository: Path) -> None:
    folders = [path.parent for path in (repository / "model_store").glob(f"*/{CARD_FILE}")]
    assert {*FORMS, "mpt", "default", "relaxed", "conductivity"} == {folder.name for folder in folders}
    weights = set()
    for folder in folders:
        if card_kind(folder) == CONDUCTIVITY_KIND:
            weights.add(read_conductivity_predictor(folder).card.weights_sha256)
        elif card_kind(folder) == PROPERTIES_KIND:
            weights.add(read_property_predictor(folder, device=CPU).card.weights_sha256)
        else:
            weights.add(read_predictor(folder, device=CPU).card.weights_sha256)
    assert len(weights) == len(folders)


def test_the_fine_tuned_forms_name_the_trunk_that_they_started_from(repository: Path) -> None:
    trunk = read_property_predictor(repository / "model_store" / "mpt", device=CPU).card.weights_sha256
    for name in FORMS:
        pretrained = read_predictor(repository / "model_store" / name, device=CPU).card.training["pretrained"]
        assert pretrained == (None if name.startswith("scratch") else {"name": "mpt", "weights_sha256": trunk})
