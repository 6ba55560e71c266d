"""What the benchmark of screenings says of its samples."""

from benchmarks.screening import Sample, highest_of_parts


def sample(seconds: float, done: int, memory_mib: int) -> Sample:
    return Sample(seconds=seconds, done=done, memory_mib=memory_mib, largest_mib=memory_mib // 2)


def figures(samples: list[Sample], count: int) -> list[tuple[float, int, int, int]]:
    return [(one.seconds, one.done, one.memory_mib, one.largest_mib) for one in highest_of_parts(samples, count)]


def test_memory_is_the_highest_up_to_a_tenth_a_half_and_the_whole() -> None:
    samples = [sample(2, 0, 900), sample(4, 10, 500), sample(6, 30, 800), sample(8, 60, 700), sample(9, 100, 600)]
    assert figures(samples, 100) == [(4, 10, 900, 450), (8, 60, 800, 400), (9, 100, 600, 300)]


def test_one_sample_that_passes_a_tenth_and_a_half_is_told_once() -> None:
    assert figures([sample(2, 0, 100), sample(4, 6, 300), sample(6, 8, 200)], 8) == [(4, 6, 300, 150), (6, 8, 200, 100)]
    assert figures([sample(2, 0, 100), sample(4, 8, 300)], 8) == [(4, 8, 300, 150)]
    assert figures([sample(2, 0, 100)], 8) == [(2, 0, 100, 50)]
