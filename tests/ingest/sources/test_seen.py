import random

from blip.ingest.sources import seen
from blip.ingest.sources.seen import Seen


def test_a_name_is_new_once(monkeypatch) -> None:
    monkeypatch.setattr(seen, "RECENT", 16)  # so that several sorted arrays come about
    names = [f"n{number}" for number in range(1000)]
    twice = [*names, *names]
    random.Random(0).shuffle(twice)
    before, found = Seen(), set()
    for name in twice:
        assert before.add(name) == (name not in found)
        found.add(name)


def test_it_holds_8_bytes_a_name_and_few_arrays(monkeypatch) -> None:
    monkeypatch.setattr(seen, "RECENT", 16)
    before = Seen()
    for number in range(16 * 50):
        before.add(str(number))
    arrays = before._sorted
    assert sum(array.nbytes for array in arrays) == 8 * 16 * 50
    assert len(arrays) <= 6
