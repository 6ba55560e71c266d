"""What cannot be exported, and why."""

import pytest
from made_crystals import layered_oxide

from app.crystals.hops.search import find_hops
from app.errors import NotDoneError
from app.serving.history.exports import check_done, numbered_bands
from app.serving.reading.upload_reader import CrystalInput, ReadInput


def test_a_prediction_that_still_runs_has_nothing_to_export() -> None:
    with pytest.raises(NotDoneError) as caught:
        check_done({"status": "running", "progress": 0.5})
    assert caught.value.kind == "not-done"
    assert "running (50%)" in caught.value.detail


def test_one_that_failed_says_of_what() -> None:
    with pytest.raises(NotDoneError) as caught:
        check_done({"status": "failed", "progress": 0.0, "error": {"detail": "The model fell over."}})
    assert caught.value.kind == "prediction-failed"
    assert "The model fell over." in caught.value.detail


def test_one_that_is_done_passes() -> None:
    check_done({"status": "done", "progress": 1.0})


def test_a_hop_that_was_answered_as_another_of_its_copies_has_its_band() -> None:
    """As an earlier release may have answered it, in either direction."""
    crystal = layered_oxide()
    search = find_hops(crystal, "Li", max_atoms=2000)
    read = ReadInput(content=CrystalInput(crystal=crystal, search=search), warnings=(), packed=None)
    copies = {edge.orbit: edge for edge in search.all_hops}
    hops = [
        {
            "from_site": copies[orbit].to_site,
            "to_site": copies[orbit].from_site,
            "offset": [-step for step in copies[orbit].offset],
        }
        for orbit in range(len(search.hops))
    ]
    bands = numbered_bands({"hops": [*hops, {"from_site": 0, "to_site": 0, "offset": [7, 0, 0]}]}, read)
    assert bands == {k: hop.band for k, hop in enumerate(search.hops, start=1) if hop.band is not None}
