import math

import pytest

from blip.inspection.histogram import Histogram, between, numbers_to, shown


def filled(edges: object, *values: float, unit: str = "px") -> Histogram:
    histogram = Histogram(unit, edges)  # pyright: ignore[reportArgumentType]
    histogram.add(values)
    return histogram


def bars(histogram: Histogram, limit: int = 10) -> list[tuple[str, int]]:
    return [(bar.label, bar.count) for bar in histogram.bars(limit)]


def test_values_fall_between_the_edges_and_the_ends_are_kept() -> None:
    histogram = filled(between([16, 32, 64]), 16, 31, 32, 63.5, 64, 4000, 3)
    assert bars(histogram) == [("16 - 31", 3), ("32 - 63", 2), ("64+", 2)]
    assert (histogram.values, histogram.least, histogram.greatest) == (7, 3, 4000)


def test_only_the_part_with_values_is_shown_and_neighbours_are_joined() -> None:
    histogram = filled(numbers_to(30, 40), 5, 6, 6, 9, 12)
    assert bars(histogram, 8) == [
        ("5", 1),
        ("6", 2),
        ("7", 0),
        ("8", 0),
        ("9", 1),
        ("10", 0),
        ("11", 0),
        ("12", 1),
    ]
    assert bars(histogram, 4) == [("5 - 6", 3), ("7 - 8", 0), ("9 - 10", 1), ("11 - 12", 1)]
    assert bars(filled(numbers_to(30, 40), 35, 41)) == [("31 - 40", 1), ("41+", 1)]


def test_filling_in_pieces_gives_the_same() -> None:
    edges = numbers_to(20)
    whole, pieces = filled(edges, *range(18)), filled(edges)
    for start in range(0, 18, 5):
        pieces.add(range(start, min(start + 5, 18)))
    assert bars(whole) == bars(pieces)
    assert whole.mean == pieces.mean == 8.5


def test_it_tells_itself_in_a_few_words() -> None:
    assert filled(between([1, 100]), 64, 640, 229).told == "64 to 640 px, mean 311"
    assert filled(between([1]), 96, 96).told == "all 96 px"
    captions = Histogram("captions", between([1]))
    captions.add([1, 1])
    assert captions.told == "one caption"
    assert filled(between([1])).told == "none"
    assert filled(between([1])).bars(5) == []
    assert filled(between([0, 0.5, 2 / 3]), 0.5).bars(5)[0].label == "0.5 - 0.67"
    assert math.isnan(filled(between([1])).mean)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.6667, "0.67"),
        (4, "4"),
        (1353.27, "1353"),
        (9999, "10k"),
        (12_500, "12.5k"),
        (3e6, "3M"),
        (2.5e9, "2.5G"),
    ],
)
def test_numbers_are_short(value: float, text: str) -> None:
    assert shown(value) == text
