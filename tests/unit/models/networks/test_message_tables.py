"""The potential's first layer by tables: what it computes, whatever was asked before, and by whom at once."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import fields
from functools import partial
from typing import Any

import pytest
import torch
from bands import band_of

from app.models.graphs.ion_bonds import ion_bonds
from app.models.graphs.ion_graphs import IonGraph, join_ion_graphs
from app.models.networks import message_tables
from app.models.networks.chgnet import Chgnet
from app.models.networks.ion_environment import IonEnvironment
from app.models.networks.message_tables import MessageTables, SharedTables
from training.potentials import published_chgnet

#: Of features between -4 and 4.
TOLERANCE = 1e-4


@pytest.fixture(scope="module")
def potential() -> Iterator[Chgnet]:
    with torch.inference_mode():
        yield published_chgnet()


@pytest.fixture(scope="module")
def graphs(data_rows: list[dict[str, Any]]) -> list[IonGraph]:
    return [join_ion_graphs([ion_bonds(band_of(row))]) for row in [row for row in data_rows if row["sound"]][::20]]


def messages_to(tables: MessageTables, graph: IonGraph) -> torch.Tensor:
    totals = tables.totals(graph)
    assert totals is not None
    return totals


def at(distances: list[float], *, target: int = 0, hosts: int = 1) -> IonGraph:
    """Bonds of an oxygen to phosphorus, of given lengths."""
    empty = torch.zeros(0, dtype=torch.int64)
    vector = torch.zeros(len(distances), 3)
    vector[:, 1] = torch.tensor(distances)
    return IonGraph(
        **{field.name: empty for field in fields(IonGraph)}
        | {
            "host_numbers": torch.full((hosts,), 8),
            "source_numbers": torch.tensor([15]),
            "host_target": torch.full((len(distances),), target),
            "host_source": torch.zeros(len(distances), dtype=torch.int64),
            "host_vector": vector,
        }
    )


@pytest.mark.parametrize(
    ("distance_angstrom", "tolerance"),
    [(0.3, 1e-5), (0.5, 1e-3), (0.7, 1e-3), (1.2, 5e-5), (1.9, 5e-5), (4.0, 5e-5), (5.999, 5e-5), (6.0, 1e-6)],
)
def test_a_message_of_any_length_is_what_is_computed(
    potential: Chgnet, distance_angstrom: float, tolerance: float
) -> None:
    graph = at([distance_angstrom])
    expected = IonEnvironment(potential)._between_hosts(graph)
    assert messages_to(MessageTables(potential), graph).numpy() == pytest.approx(expected.numpy(), abs=tolerance)


@pytest.mark.parametrize("target", [0, 2])
def test_who_has_no_bonds_gets_no_messages(potential: Chgnet, target: int) -> None:
    tables = MessageTables(potential)
    bonded = messages_to(tables, at([2.0, 3.0], target=target, hosts=3))
    assert bonded[target].any()
    assert not bonded[torch.arange(3) != target].any()
    assert not messages_to(tables, at([], hosts=3)).any()


def test_bonds_come_target_by_target(data_rows: list[dict[str, Any]]) -> None:
    """The sums take them so."""
    graph = join_ion_graphs([ion_bonds(band_of(row)) for row in data_rows[:3]])
    assert bool((graph.host_target.diff() >= 0).all())


def test_the_ion_s_features_are_those_without_tables(potential: Chgnet, graphs: list[IonGraph]) -> None:
    computed, looked_up = IonEnvironment(potential), IonEnvironment(potential, MessageTables(potential))
    for graph in graphs:
        for one, other in zip(computed(graph), looked_up(graph), strict=True):
            assert other.numpy() == pytest.approx(one.numpy(), abs=TOLERANCE)


def test_an_answer_depends_on_nothing_that_was_asked_before(potential: Chgnet, graphs: list[IonGraph]) -> None:
    used = MessageTables(potential)
    first = [messages_to(used, graph) for graph in graphs]
    for graph, before in zip(graphs, first, strict=True):
        assert torch.equal(messages_to(used, graph), before)
        assert torch.equal(messages_to(MessageTables(potential), graph), before)


def test_bands_side_by_side_get_the_same_messages_as_alone(potential: Chgnet, data_rows: list[dict[str, Any]]) -> None:
    bonds = [ion_bonds(band_of(row)) for row in data_rows[:4]]
    tables = MessageTables(potential)
    alone = torch.cat([messages_to(tables, join_ion_graphs([one])) for one in bonds])
    assert torch.equal(messages_to(tables, join_ion_graphs(bonds)), alone)


def test_past_their_number_tables_are_forgotten_or_not_made(
    potential: Chgnet, graphs: list[IonGraph], monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = [messages_to(MessageTables(potential), graph) for graph in graphs]
    monkeypatch.setattr(message_tables, "MOST_PAIRS", 12)  # what half of them have, and less than two have
    few = MessageTables(potential)
    looked_up = [few.totals(graph) for graph in graphs]
    assert any(totals is None for totals in looked_up)
    assert sum(totals is not None for totals in looked_up) > 3
    for totals, whole in zip(looked_up, expected, strict=True):
        assert totals is None or torch.equal(totals, whole)
    computed, environment = IonEnvironment(potential), IonEnvironment(potential, few)
    most = graphs[next(k for k, totals in enumerate(looked_up) if totals is None)]
    assert torch.equal(environment(most)[1], computed(most)[1])


def test_checkpoints_share_tables_where_their_potential_is_the_same(potential: Chgnet) -> None:
    shared = SharedTables()
    other = published_chgnet()
    assert shared.of(potential) is shared.of(other)
    other.elements.weight.data[0] += 1.0
    assert shared.of(other) is not shared.of(potential)


def test_threads_that_fill_tables_at_once_get_the_same_messages(
    potential: Chgnet, graphs: list[IonGraph], monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = [messages_to(MessageTables(potential), graph) for graph in graphs]
    monkeypatch.setattr(message_tables, "MOST_PAIRS", 40)  # so that they are forgotten while others read them
    shared = MessageTables(potential)
    with ThreadPoolExecutor(8) as threads:
        for _ in range(3):
            for before, one in zip(expected, threads.map(partial(messages_to, shared), graphs), strict=True):
                assert torch.equal(one, before)
