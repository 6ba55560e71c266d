"""Barriers of several sources are read together; what is wrong in a lab's own file is named with its line."""

import gzip
import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from composed import composed_bands

from app.crystals.writers import band_to_json
from training.barrier_rows import barrier_row, closest_approach_angstrom, is_sound, straight_band
from training.corpus import LITERATURE, LITRAJ, barrier_files, read_corpus

BANDS = {name: straight_band(band) for name, band in composed_bands().items()}


def _published(prefix: str, **about: str) -> list[dict[str, Any]]:
    names = ("LiFePO4 1", "LiF 1", "MgO 1")
    folds = ({"fold_random": k, "fold_chemistry": k + 3} for k in range(3))
    return [barrier_row(f"{prefix}{name}", BANDS[name], 0.4, next(folds), **about) for name in names]


def _own(name: str, **others: Any) -> dict[str, Any]:
    return {"id": f"own {name}", "barrier_ev": 0.3, **band_to_json(BANDS[name]), **others}


@pytest.fixture
def write(tmp_path: Path) -> Callable[..., Path]:
    def written(**files: list[Any]) -> Path:
        (tmp_path / "barriers").mkdir(exist_ok=True)
        for name, rows in files.items():
            lines = "".join(f"{row if isinstance(row, str) else json.dumps(row)}\n" for row in rows)
            (tmp_path / "barriers" / f"{name}.jsonl.gz").write_bytes(gzip.compress(lines.encode(), mtime=0))
        return tmp_path

    return written


def test_every_row_keeps_its_source(write: Callable[..., Path]) -> None:
    data = write(bands=_published(""), litraj=_published("litraj-"), a_lab=[_own("LiCl 1"), _own("ZnS 1")])
    corpus = read_corpus(data, None)
    assert corpus.sources.tolist() == [LITERATURE] * 3 + [LITRAJ] * 3 + ["a_lab"] * 2
    assert list(corpus.files) == [LITERATURE, LITRAJ, "a_lab"] == list(barrier_files(data))
    assert {record.source for record in read_corpus(data).records} == {LITERATURE}
    assert {record.source for record in read_corpus(data, [LITRAJ, "a_lab"]).records} == {LITRAJ, "a_lab"}


def test_one_source_alone_has_the_digest_of_its_file(write: Callable[..., Path]) -> None:
    data = write(bands=_published(""), litraj=_published("litraj-"))
    digest = hashlib.sha256((data / "barriers" / "bands.jsonl.gz").read_bytes()).hexdigest()
    assert read_corpus(data).sha256 == read_corpus(data, None).files[LITERATURE] == digest
    assert len({read_corpus(data, sources).sha256 for sources in (None, [LITERATURE], [LITRAJ])}) == 3


def test_own_rows_need_a_band_a_barrier_and_an_id_alone(write: Callable[..., Path]) -> None:
    given = _own("LiF 1", fold_random=7, fold_chemistry=8)
    rows = [_own("LiFePO4 1"), _own("LiCl 1"), _own("LiCl 1", id="again"), given]
    corpus = read_corpus(write(bands=_published(""), lab=rows), None)
    own = corpus.records[3:]
    assert all(record.sound and record.functional == "" for record in own)
    assert own[0].folds["fold_chemistry"] == 3  # that of its chemical system in the literature
    assert own[1].folds == own[2].folds  # never split
    assert own[3].folds == {"fold_random": 7, "fold_chemistry": 8}
    assert {0 <= number <= 9 for record in own for number in record.folds.values()} == {True}


def test_own_bands_become_straight_as_those_that_are_served(write: Callable[..., Path]) -> None:
    (record,) = read_corpus(write(lab=[_own("LiCl 1", image_frac_coords=[[0, 0, 0], [0.1, 0.1, 0.1]])]), None).records
    assert record.band.image_frac_coords[:, 0] == pytest.approx([0.0, 0.025, 0.05, 0.075, 0.1])


@pytest.mark.parametrize(
    ("row", "words"),
    [
        ("{", "Expecting property name"),
        ("[]", "not a JSON object"),
        (_own("LiCl 1", barrier_ev="0.4"), "barrier_ev is '0.4', not a number of eV above zero"),
        (_own("LiCl 1", barrier_ev=-0.1), "barrier_ev is -0.1"),
        (_own("LiCl 1", barrier_ev=270.0), "barrier_ev is 270.0, above 15 eV, and no barrier is as high: it is in eV"),
        (_own("LiCl 1", barrier_ev=True), "barrier_ev is True, not a number of eV above zero"),
        ({**_own("LiCl 1"), "host_species": None}, "The band has no host_species"),
        ({name: value for name, value in _own("LiCl 1").items() if name != "id"}, "the field 'id' is missing"),
        (_own("LiF 1"), "the id 'own LiF 1' is there already in line 1"),
        (_own("LiCl 1", ion="Xx"), "Xx"),
        (_own("LiCl 1", fold_random="a"), "fold_random is 'a', not a whole number from 0 to 9"),
        (_own("LiCl 1", fold_random=10), "fold_random is 10, not a whole number"),
        (_own("LiCl 1", fold_chemistry=-1), "fold_chemistry is -1, not a whole number"),
    ],
)
def test_a_wrong_row_is_named_with_its_line(write: Callable[..., Path], row: Any, words: str) -> None:
    data = write(lab=[_own("LiF 1"), row])
    with pytest.raises(ValueError, match="line 2") as refused:
        read_corpus(data, None)
    assert words in str(refused.value)
    assert "lab.jsonl.gz" in str(refused.value)


def test_what_is_not_packed_or_not_there_is_named(write: Callable[..., Path], tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"bands\.jsonl\.gz"):
        read_corpus(tmp_path, None)
    data = write(lab=[_own("LiF 1")])
    with pytest.raises(FileNotFoundError, match=r"litraj\.jsonl\.gz"):
        read_corpus(data, ["lab", LITRAJ])
    (data / "barriers" / "lab.jsonl").write_text(json.dumps(_own("LiCl 1")))
    with pytest.raises(ValueError, match="both the source lab"):
        read_corpus(data, None)
    (data / "barriers" / "lab.jsonl.gz").write_bytes(b"text")
    (data / "barriers" / "lab.jsonl").unlink()
    with pytest.raises(ValueError, match="cannot be read"):
        read_corpus(data, None)


def test_a_band_through_an_atom_is_not_sound() -> None:
    band = BANDS["LiCl 1"]
    assert is_sound(band)
    assert closest_approach_angstrom(band) > 0.7
    atom = int(np.argmin(np.linalg.norm((band.host_frac_coords - band.image_frac_coords[2]) % 1.0, axis=1)))
    moved = band.host_frac_coords.copy()
    moved[atom] = band.image_frac_coords[2] + 0.01
    through = straight_band(type(band)(**{**vars(band), "host_frac_coords": moved}))
    assert not is_sound(through)
    assert barrier_row("x", through, 1.0, {})["sound"] is False


def test_the_shared_data_is_read_whole(data_dir: Path) -> None:
    corpus = read_corpus(data_dir)
    assert (len(corpus.records), int(corpus.sound.sum())) == (559, 544)
    assert {record.functional for record in corpus.records} >= {"GGA", "SCAN"}
