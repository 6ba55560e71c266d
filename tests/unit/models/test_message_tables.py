"""The potential's first layer by tables: what it computes, whatever was asked before, and by whom at once."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import torch
from bands import band_of

from app.models.ion_bonds import ion_bonds
from app.models.ion_graphs import IonGraph, ion_graph, join_ion_graphs
from app.models.networks import message_tables
from app.models.networks.chgnet import Chgnet
from app.models.networks.ion_environment import IonEnvironment
from app.models.networks.message_tables import MessageTables
from training.potentials import published_chgnet

#: Of features between -4 and 4.
TOLERANCE = 1e-4


@pytest.fixture(scope="module")
def potential() -> Iterator[Chgnet]:
    with torch.inference_mode():
        yield published_chgnet()


@pytest.fixture(scope="module")
def graphs(data_rows: list[dict[str, Any]]) -> list[IonGraph]:
    return [ion_graph(band_of(row)) for row in [row for row in data_rows if row["sound"]][::20]]


def test_the_ion_s_features_are_those_without_tables(potential: Chgnet, graphs: list[IonGraph]) -> None:
    computed, looked_up = IonEnvironment(potential), IonEnvironment(potential, MessageTables(potential))
    for graph in graphs:
        for one, other in zip(computed(graph), looked_up(graph), strict=True):
            assert other.numpy() == pytest.approx(one.numpy(), abs=TOLERANCE)


def test_an_answer_depends_on_nothing_that_was_asked_before(potential: Chgnet, graphs: list[IonGraph]) -> None:
    used = MessageTables(potential)
    first = [used.totals(graph) for graph in graphs]
    for graph, before in zip(graphs, first, strict=True):
        assert torch.equal(used.totals(graph), before)
        assert torch.equal(MessageTables(potential).totals(graph), before)


def test_bands_side_by_side_are_told_what_each_is_told_alone(
    potential: Chgnet, data_rows: list[dict[str, Any]]
) -> None:
    bonds = [ion_bonds(band_of(row)) for row in data_rows[:4]]
    tables = MessageTables(potential)
    alone = torch.cat([tables.totals(join_ion_graphs([one])) for one in bonds])
    assert torch.equal(tables.totals(join_ion_graphs(bonds)), alone)


def test_a_host_atom_without_bonds_is_told_nothing(potential: Chgnet, graphs: list[IonGraph]) -> None:
    graph = graphs[0]
    bare = int(graph.host_target[0])
    kept = graph.host_target != bare
    fewer = IonGraph(
        **vars(graph) | {name: getattr(graph, name)[kept] for name in ("host_target", "host_source", "host_vector")}
    )
    total, whole = (MessageTables(potential).totals(one) for one in (fewer, graph))
    assert not total[bare].any()
    others = torch.arange(len(total)) != bare
    assert torch.equal(total[others], whole[others])


def test_past_their_number_tables_are_made_anew(
    potential: Chgnet, graphs: list[IonGraph], monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = [MessageTables(potential).totals(graph) for graph in graphs]
    monkeypatch.setattr(message_tables, "MOST_PAIRS", 3)  # fewer than most graphs have
    few = MessageTables(potential)
    for _ in range(2):
        for graph, told in zip(graphs, expected, strict=True):
            assert torch.equal(few.totals(graph), told)


def test_threads_that_fill_tables_at_once_are_told_the_same(
    potential: Chgnet, graphs: list[IonGraph], monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = [MessageTables(potential).totals(graph) for graph in graphs]
    monkeypatch.setattr(message_tables, "MOST_PAIRS", 40)  # so that they are forgotten while others read them
    shared = MessageTables(potential)
    with ThreadPoolExecutor(8) as threads:
        for _ in range(3):
            for told, one in zip(expected, threads.map(shared.totals, graphs), strict=True):
                assert torch.equal(one, told)
