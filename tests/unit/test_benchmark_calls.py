"""What benchmarks send: every call another input, and as many slow ones among them as were asked for."""

from itertools import islice, repeat
from pathlib import Path

from benchmarks.faults.calls import BAND, Call, crystal_calls, mixed, strained_cif


def test_a_strained_cif_has_longer_edges_and_no_volume_that_contradicts_them() -> None:
    edges = "_cell_length_a   10.0\n_cell_length_b 5.05(3)\n_cell_length_c 4\n"
    text = f"data_a\n{edges}_cell_volume 1\n_cell_angle_alpha 90\n"
    assert strained_cif(text, 1.1).splitlines() == [
        "data_a",
        "_cell_length_a   11.00000000",
        "_cell_length_b 5.55500000",
        "_cell_length_c 4.40000000",
        "_cell_angle_alpha 90",
    ]


def test_no_crystal_is_sent_twice(repository: Path) -> None:
    files = [repository / "examples" / name for name in ("LiCoO2.cif", "LiFePO4.cif")]
    calls = list(islice(crystal_calls(files, "Li"), 100))
    assert [call.name for call in calls[:3]] == ["LiCoO2.cif", "LiFePO4.cif", "LiCoO2.cif"]
    edges = {line for call in calls for line in call.body.decode().splitlines() if line.startswith("_cell_length_c")}
    assert len(edges) == 100


def test_one_call_in_so_many_is_a_slow_one() -> None:
    band = Call(content_type="application/json", body=b"")
    slow = Call(content_type="application/json", body=b"", name="slow.cif")
    names = [call.name for call in islice(mixed(repeat(band), repeat(slow), every=5), 20)]
    assert names == [*[BAND] * 4, "slow.cif"] * 4
