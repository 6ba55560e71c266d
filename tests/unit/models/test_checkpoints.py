"""What the model store refuses, and that it says which folder and why."""

import json
import re
import shutil
from pathlib import Path
from typing import Any

import pytest

from app.errors import NotFoundError
from app.models.cards.card import Card, CheckpointError, card_kind, read_card
from app.models.cards.conductivity_card import CONDUCTIVITY_KIND, ConductivityCard
from app.models.cards.property_card import PROPERTIES_KIND, PropertyCard
from app.models.checkpoints import read_checkpoint, read_conductivity_predictor, read_property_checkpoint
from app.models.registry import Registry, choose_device


@pytest.fixture
def folder(repository: Path, tmp_path: Path) -> Path:
    """A copy of the shipped checkpoint, to be damaged."""
    return Path(shutil.copytree(repository / "model_store" / "model-3", tmp_path / "store" / "model-3"))


QUANTILES: dict[str, Any] = {"outside_factor": 1.5, "rows": 1, "folds": [0]}


def edit(folder: Path, **changes: Any) -> None:
    card = json.loads((folder / "card.json").read_text())
    card.update(changes)
    (folder / "card.json").write_text(json.dumps(card))


def test_the_shipped_checkpoint_is_whole(repository: Path) -> None:
    for path in sorted((repository / "model_store").iterdir()):
        card: Card | PropertyCard | ConductivityCard
        if card_kind(path) == CONDUCTIVITY_KIND:
            card = read_conductivity_predictor(path).card
            fitted_with = card.barrier_model
            assert fitted_with["digest"] == read_card(repository / "model_store" / fitted_with["name"]).digest
        elif card_kind(path) == PROPERTIES_KIND:
            card, _ = read_property_checkpoint(path)
        else:
            card, _, _ = read_checkpoint(path)
        assert card.citations
        assert card.licence == "MIT"
        assert (path / "weights.safetensors").stat().st_size < 50_000_000
        # What carries a potential's weights carries their licence too.
        licence = {"LICENSE-CHGNet.txt"} if "potential" in card.training else set()
        assert {file.name for file in path.iterdir()} == {"card.json", "weights.safetensors"} | licence


def test_the_shipped_model_3_keeps_its_promise(repository: Path) -> None:
    """Three folds by chemistry of both corpora, out of fold (the median is off by 0.48 and 0.54 eV)."""
    card = read_card(repository / "model_store" / "model-3")
    worlds = card.metrics["fold_chemistry"]["worlds"]
    assert worlds["literature"]["sound"]["mae_ev"]["value"] < 0.27
    assert worlds["litraj"]["sound"]["mae_ev"]["value"] < 0.30
    assert card.corpus["rows"] == 559 + 1079


def test_the_page_says_what_the_default_was_fitted_on(repository: Path) -> None:
    page = (repository / "app" / "web" / "index.html").read_text("utf-8")
    found = re.search(r"(\d+) from the literature.*?([\d,]+) of LiTraj", page, re.DOTALL)
    assert found is not None
    files = read_card(repository / "model_store" / "default").corpus["files"]
    said = {"literature": int(found[1]), "litraj": int(found[2].replace(",", ""))}
    assert said == {name: files[name]["rows"] for name in files}


def test_a_changed_byte_is_refused(folder: Path) -> None:
    path = folder / "weights.safetensors"
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(bytes(content))
    with pytest.raises(CheckpointError, match="was changed or belongs to another card"):
        read_checkpoint(folder)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"format_version": 99}, "not a card of format"),
        ({"network": "model-99"}, "does not fit its card"),
        ({"arguments": {"trunk": {"features": 32}}}, "does not fit its card"),
        ({"name": "../../elsewhere"}, "not its folder's name"),
        ({"target": {}}, "not a whole card"),
        ({"target": {"offset_ev": 0.1, "mean": 0.0, "scale": float("nan")}}, "target is invalid"),
        ({"target": {"offset_ev": 0.1, "mean": 0.0, "scale": "0.7"}}, "target is invalid"),
        ({"calibration": []}, "not a whole card"),
        ({"calibration": QUANTILES | {"residual_quantiles": [-1.0, 0.0, 1.0]}}, "residual_quantiles is invalid"),
        ({"calibration": QUANTILES | {"residual_quantiles": [1.0] * 14 + [0.0]}}, "residual_quantiles is invalid"),
        ({"graph": {"x": 1}}, "does not fit its card"),
        ({"graph": {"inner_angstrom": 5.0, "outer_angstrom": 5.0}}, "does not fit its card"),
        ({"arguments": {"trunk": {}, "readout": "unknown"}}, "does not fit its card"),
        ({"surprise": 1}, "not a whole card"),
    ],
)
def test_a_card_that_lies_is_refused(folder: Path, changes: dict[str, Any], words: str) -> None:
    edit(folder, **changes)
    with pytest.raises(CheckpointError, match=words):
        read_checkpoint(folder)


def test_a_card_cannot_point_at_another_file(folder: Path) -> None:
    """The weights' file name is fixed; a field that names one is unknown."""
    edit(folder, weights_file="/etc/passwd")
    with pytest.raises(CheckpointError, match="not a whole card"):
        read_checkpoint(folder)


def test_missing_files_are_named(folder: Path) -> None:
    (folder / "weights.safetensors").unlink()
    with pytest.raises(CheckpointError, match=r"weights\.safetensors cannot be read"):
        read_checkpoint(folder)
    (folder / "card.json").write_text("{")
    with pytest.raises(CheckpointError, match=r"card\.json cannot be read"):
        read_checkpoint(folder)


def test_the_digest_names_calibration_as_well_as_weights(folder: Path) -> None:
    before = read_card(folder).digest
    calibration = json.loads((folder / "card.json").read_text())["calibration"]
    edit(folder, calibration={**calibration, "outside_factor": 3.0})
    assert read_card(folder).digest != before


def test_a_store_without_the_default_model_is_refused(folder: Path) -> None:
    with pytest.raises(CheckpointError, match="IONPATH_DEFAULT_MODEL"):
        Registry.open(folder.parent, "cpu", default="model-9")
    with pytest.raises(CheckpointError, match="IONPATH_MODEL_STORE"):
        Registry.open(folder.parent / "nowhere", "cpu", default="model-3")


def test_an_unknown_name_lists_those_there_are(folder: Path) -> None:
    registry = Registry.open(folder.parent, "cpu", default="model-3")
    assert registry.names() == ("model-3",)
    assert registry.card("model-3")["digest"] == registry.predictor().digest
    with pytest.raises(NotFoundError) as missing:
        registry.predictor("model-9")
    assert missing.value.expected == "one of model-3"


def test_a_gpu_that_is_not_there_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    assert choose_device("auto").type == "cpu"
    with pytest.raises(CheckpointError, match="IONPATH_DEVICE"):
        choose_device("cuda")
