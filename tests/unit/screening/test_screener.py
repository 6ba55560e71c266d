"""A worker gives every file its rows: what is wrong with one costs that one alone."""

import bz2
import gzip
import io
import json
import lzma
import shutil
import threading
import time
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conductors import write_small
from made_crystals import crystal_of, layered_oxide, repeated, rock_salt

from app.crystals.crystal import Crystal, Site
from app.crystals.hops.options import HopOptions
from app.crystals.limits import Limits
from app.crystals.writers import crystal_to_cif
from app.models.cards.card import CheckpointError, read_card
from app.models.cards.conductivity_card import conductivity_card
from app.screening.attempts import MOST_DEATHS, CountedAttempts
from app.screening.job import ConductivityChoice, ModelChoice, Question
from app.screening.rows import SCHEMAS, table_of
from app.screening.screener import Rows, Screener, _ended_after
from app.screening.sources.items import Item
from app.serving.worker_process import BUSY_FACTOR
from app.settings import Settings

QUESTION = Question(ions=("Li",), hops=HopOptions(), limits=Limits(), threshold_ev=0.65)


def model() -> ModelChoice:
    store = Settings().model_store
    card = conductivity_card(store, ("Na", "Li"))
    assert card is not None
    return ModelChoice(
        store=store,
        name="default",
        digest=read_card(store / "default").digest,
        device="cpu",
        conductivity=ConductivityChoice(name=card.name, digest=card.digest),
    )


@pytest.fixture(scope="module")
def screener() -> Iterator[Screener]:
    screener = Screener(QUESTION, model(), CountedAttempts())
    yield screener
    screener.close()


def item(name: str, *crystals: Crystal, **changes: Any) -> Item:
    text = "".join(crystal_to_cif(crystal, f"block-{k}") for k, crystal in enumerate(crystals, start=1))
    return Item(**{"input": name, "name": name, "content": text.encode(), **changes})


def asked(screener: Screener, items: list[Item], **changes: Any) -> Rows:
    before = screener._question
    screener._question = replace(before, **changes)
    try:
        return screener.screen(items)
    finally:
        screener._question = before


def slow() -> Item:
    """800 ions without any symmetry: its hops are not found within seconds."""
    crystal = repeated(rock_salt(), (5, 5, 8))
    moved = np.random.default_rng(0).uniform(-0.002, 0.002, (len(crystal.sites), 3))
    sites = [
        (site.species[0][0], tuple(float(x) for x in np.array(site.frac_coords) + shift))
        for site, shift in zip(crystal.sites, moved, strict=True)
    ]
    return item("slow.cif", crystal_of(crystal.lattice_angstrom, sites))  # type: ignore[arg-type] # three numbers each


def test_rows_of_a_crystal(screener: Screener) -> None:
    rows = screener.screen([item("a/LiCoO2.cif", layered_oxide())])
    (crystal,) = rows.crystals
    assert (crystal["id"], crystal["input"], crystal["ion"]) == ("a/LiCoO2.cif", "a/LiCoO2.cif", "Li")
    assert (crystal["formula"], crystal["space_group"]) == ("Co3 Li3 O6", 166)
    assert crystal["percolation_2d_ev"] == pytest.approx(crystal["percolation_1d_ev"])
    assert crystal["percolating_share_2d"] == 1.0
    assert crystal["percolation_2d_low_ev"] < crystal["percolation_2d_ev"] < crystal["percolation_2d_high_ev"]
    bottleneck = rows.hops[crystal["bottleneck_hops_2d"][0] - 1]
    assert bottleneck["barrier_ev"] == crystal["percolation_2d_ev"]
    ends = np.array(bottleneck["to_frac_coords"]) - bottleneck["from_frac_coords"]
    length = np.linalg.norm(ends @ layered_oxide().lattice_angstrom)
    assert length == pytest.approx(bottleneck["distance_angstrom"], abs=1e-5)
    assert crystal["hops"] == len(rows.hops)
    assert not rows.failures
    for name, one in (("crystals", rows.crystals), ("hops", rows.hops), ("failures", rows.failures)):
        assert table_of(name, one).schema == SCHEMAS[name]


def test_lithium_has_a_conductivity_and_other_ions_none(screener: Screener) -> None:
    rows = asked(
        screener, [item("a.cif", layered_oxide()), item("b.cif", rock_salt(ion="Na"))], ions=("Li", "Na"),
        only_present=True,
    )  # fmt: skip
    lithium, sodium = rows.crystals
    low, high = lithium["log10_conductivity_low"], lithium["log10_conductivity_high"]
    assert low < lithium["log10_conductivity_s_per_cm"] < high
    assert 0.0 < lithium["probability_above_1e-4_s_per_cm"] < 1.0
    assert lithium["conductivity_in_domain"] is not bool(lithium["conductivity_reasons"])
    assert lithium["warnings"] == []
    of_sodium = table_of("crystals", [sodium]).to_pylist()[0]
    names = ("log10_conductivity_s_per_cm", "probability_above_1e-4_s_per_cm", "conductivity_in_domain")
    assert [of_sodium[name] for name in names] == [None] * 3
    assert of_sodium["conductivity_reasons"] == []
    salt = rock_salt(ion="Na", a=5.6)  # lithium is placed between its ions, and there is none to conduct
    (added,) = table_of("crystals", asked(screener, [item("c.cif", salt)], ions=("Li",)).crystals).to_pylist()
    assert (added["ion"], added["log10_conductivity_s_per_cm"]) == ("Li", None)


def test_a_conductivity_fitted_on_other_barriers_says_so(tmp_path: Path) -> None:
    shutil.copytree(Settings().model_store / "default", tmp_path / "default")
    write_small(tmp_path)
    card = conductivity_card(tmp_path, ("Li",))
    assert card is not None
    choice = replace(model(), store=tmp_path, conductivity=ConductivityChoice(name=card.name, digest=card.digest))
    screener = Screener(QUESTION, choice, CountedAttempts())
    try:
        (row,) = screener.screen([item("a.cif", layered_oxide())]).crystals
    finally:
        screener.close()
    assert any("it may be off by more than its interval says" in one for one in row["warnings"])


def test_each_file_fails_alone_and_says_why(screener: Screener) -> None:
    bad = [
        Item(input="cut.cif", name="cut.cif", content=b"data_x\n_cell_length_a 3\n"),
        Item(input="gone.cif", name="gone.cif", content=b"", problem="gone.cif cannot be read: no such file."),
        Item(input="not.json", name="not.json", content=b'{"a": 1}'),
        Item(input="noise.cif.gz", name="noise.cif.gz", content=gzip.compress(b"data_")[:-5]),
    ]
    rows = screener.screen([*bad[:2], item("good.cif", rock_salt()), *bad[2:]])
    assert {row["id"]: row["kind"] for row in rows.failures} == {
        "cut.cif": "truncated-cif",
        "gone.cif": "unreadable-file",
        "not.json": "not-a-crystal",
        "noise.cif.gz": "broken-packing",
    }
    assert all(row["words"] for row in rows.failures)
    assert [row["id"] for row in rows.crystals] == ["good.cif"]
    assert sorted(rows.inputs) == sorted([one.input for one in bad] + ["good.cif"])


def test_a_file_over_the_limit_fails(screener: Screener) -> None:
    rows = asked(screener, [item("large.cif", rock_salt())], limits=Limits(max_body_bytes=10))
    assert [row["kind"] for row in rows.failures] == ["too-many-bytes"]


def test_a_cif_of_several_blocks_has_rows_of_each(screener: Screener) -> None:
    rows = screener.screen([item("two.cif", rock_salt(), layered_oxide())])
    assert {row["id"]: row["formula"] for row in rows.crystals} == {
        "two.cif#block-1": "Cl4 Li4",
        "two.cif#block-2": "Co3 Li3 O6",
    }
    assert {row["input"] for row in rows.crystals} == {"two.cif"}
    assert rows.inputs == ["two.cif"]
    twice = Item(input="x.cif", name="x.cif", content=2 * crystal_to_cif(rock_salt(), "same").encode())
    assert [row["kind"] for row in screener.screen([twice]).failures] in (["repeated-block"], ["unreadable-cif"])


@pytest.mark.parametrize("packing", ["gzip", "bzip2", "xz", "zip", "utf-16"])
def test_a_packed_cif_of_several_blocks_has_rows_of_each(screener: Screener, packing: str) -> None:
    text = item("two.cif", rock_salt(), layered_oxide()).content
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w") as writing:
        writing.writestr("two.cif", text)
    content = {
        "gzip": gzip.compress(text),
        "bzip2": bz2.compress(text),
        "xz": lzma.compress(text),
        "zip": archive.getvalue(),
        "utf-16": text.decode().encode("utf-16"),
    }[packing]
    rows = screener.screen([Item(input="two", name="two", content=content)])
    assert [row["formula"] for row in rows.crystals] == ["Cl4 Li4", "Co3 Li3 O6"]


def test_several_ions_each_have_a_row(screener: Screener) -> None:
    mixed = replace(
        rock_salt(),
        sites=tuple(
            Site(species=(("Na", 1.0),), frac_coords=site.frac_coords) if k == 0 else site
            for k, site in enumerate(rock_salt().sites)
        ),
    )
    items = [item("mixed.cif", mixed), item("Na.cif", rock_salt(ion="Na")), item("K.cif", rock_salt(ion="K", a=6.3))]
    rows = asked(screener, items, ions=("Li", "Na"), only_present=True)
    assert [(row["id"], row["ion"]) for row in rows.crystals] == [
        ("mixed.cif", "Li"),
        ("mixed.cif", "Na"),
        ("Na.cif", "Na"),
    ]
    (failure,) = rows.failures
    assert (failure["id"], failure["ion"], failure["kind"]) == ("K.cif", None, "ion-absent")
    assert "--only-present" in failure["expected"]
    every = asked(screener, items[2:], ions=("Li", "K"))
    ions = {row["ion"] for row in (*every.crystals, *every.failures)}
    assert ions == {"Li", "K"}  # as `ionpath predict`: an absent ion hops between interstitial sites, or has none


def test_answers_do_not_depend_on_the_batch(screener: Screener) -> None:
    items = [item("a.cif", rock_salt()), item("b.cif", layered_oxide()), item("c.cif", rock_salt(a=5.4))]
    together = {row["id"]: row for row in screener.screen(items).crystals}
    for one in items:
        (alone,) = screener.screen([one]).crystals
        for name, value in alone.items():
            if name != "seconds":
                expected = together[one.input][name]
                assert value == (pytest.approx(expected, abs=1e-5) if isinstance(value, float) else expected)


def test_a_crystal_that_takes_too_long_is_ended_and_the_next_goes_on(screener: Screener) -> None:
    rows = asked(screener, [slow()], timeout_s=0.3)
    assert [row["kind"] for row in rows.failures] == ["took-too-long"]
    assert "--timeout-s" in rows.failures[0]["expected"]
    assert screener.screen([item("good.cif", rock_salt())]).crystals


def test_a_crystal_that_kills_its_workers_is_given_up_alone(screener: Screener) -> None:
    """Workers that begin a batch and never end it are dead."""
    items = [item("good.cif", rock_salt()), item("deadly.cif", rock_salt(a=5.2))]
    attempts = screener._attempts
    attempts.begin("batch good.cif")
    for _ in range(MOST_DEATHS):
        attempts.begin("deadly.cif")
    rows = screener.screen(items)
    assert [row["id"] for row in rows.crystals] == ["good.cif"]
    assert [(row["id"], row["kind"]) for row in rows.failures] == [("deadly.cif", "kills-its-worker")]
    assert len(screener.screen(items).crystals) == 2  # what has ended is forgotten


class _WorkerDiedError(BaseException):
    """Leaves `screen` as a death does: nothing of ours catches it, and nothing is ended."""


class _Deadly(CountedAttempts):
    """Ends the worker that begins a batch or deadly.cif."""

    def __init__(self) -> None:
        super().__init__()
        self.deaths = 0

    def begin(self, key: str) -> int:
        count = super().begin(key)
        if (key.startswith("batch") and not count) or (key == "deadly.cif" and count < MOST_DEATHS):
            self.deaths += 1
            raise _WorkerDiedError
        return count


def test_crystals_screened_before_a_deadly_one_keep_their_rows(screener: Screener) -> None:
    items = [item(name, rock_salt()) for name in ("good1.cif", "good2.cif", "deadly.cif", "good3.cif")]
    before, screener._attempts = screener._attempts, (deadly := _Deadly())
    try:
        for _ in range(1 + MOST_DEATHS):
            with pytest.raises(_WorkerDiedError):
                screener.screen(items)
        rows = screener.screen(items)
    finally:
        screener._attempts = before
    assert deadly.deaths == 1 + MOST_DEATHS
    assert [row["id"] for row in rows.crystals] == ["good1.cif", "good2.cif", "good3.cif"]
    assert [row["id"] for row in rows.failures] == ["deadly.cif"]


def _until_ended(timeout_s: float, wait: Callable[[], object]) -> tuple[float, float]:
    """Seconds of processor time, and in all, until something is ended that waits in a loop for ever."""
    ended = threading.Event()
    begun_s, used_s = time.monotonic(), time.process_time()
    with _ended_after(timeout_s, lambda _: ended.set()):
        while not ended.is_set() and time.monotonic() < begun_s + 60:
            wait()
    assert ended.is_set()
    return time.process_time() - used_s, time.monotonic() - begun_s


def test_what_computes_for_ever_ends_the_worker_by_its_processor_time() -> None:
    used_s, whole_s = _until_ended(0.3, lambda: None)
    assert used_s >= 0.3 or whole_s >= BUSY_FACTOR * 0.3  # the latter where others have the cores
    assert used_s < 2 * 0.3


def test_what_hangs_ends_the_worker_only_after_three_times_as_long() -> None:
    """It may be a busy machine."""
    used_s, whole_s = _until_ended(0.2, lambda: time.sleep(0.01))
    assert used_s < 0.2
    assert whole_s >= BUSY_FACTOR * 0.2


def test_a_worker_that_is_done_in_time_goes_on() -> None:
    ended = threading.Event()
    with _ended_after(0.1, lambda _: ended.set()):
        pass
    assert not ended.wait(0.4)


def test_a_machine_with_another_model_is_refused() -> None:
    choice = replace(model(), digest="0" * 64)
    other = replace(model(), conductivity=ConductivityChoice(name="conductivity", digest="0" * 64))
    for one in (choice, other):
        with pytest.raises(CheckpointError, match="every machine needs the same model store"):
            Screener(QUESTION, one, CountedAttempts())


def test_a_store_without_a_model_of_an_ions_conductivity_has_no_card_of_it(tmp_path: Path) -> None:
    assert conductivity_card(Settings().model_store, ("Na", "K")) is None
    assert conductivity_card(tmp_path, ("Li",)) is None


def _card(store: Path, name: str, content: dict[str, Any]) -> None:
    (store / name).mkdir()
    (store / name / "card.json").write_text(json.dumps(content))


def test_a_damaged_card_of_another_checkpoint_is_skipped_and_one_of_the_ion_is_not(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "a-cut").mkdir()
    (tmp_path / "a-cut" / "card.json").write_text('{"kind": "condu')
    _card(tmp_path, "b-of-sodium", {"format_version": 1, "kind": "conductivity", "ion": "Na"})
    write_small(tmp_path)
    card = conductivity_card(tmp_path, ("Li",))
    assert card is not None
    assert card.ion == "Li"
    assert "a-cut" in caplog.text
    with pytest.raises(CheckpointError, match=r"b-of-sodium.*not a whole card"):
        conductivity_card(tmp_path, ("Na",))
