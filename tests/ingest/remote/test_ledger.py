"""Where a run goes on, told by the shards that it read and the parts that it finished."""

from dataclasses import replace
from pathlib import Path

import pytest

from blip.data.manifest import Shard
from blip.data.part import Receipt
from blip.ingest.remote.ledger import END, LEDGER, Entry, Ledger, Place, count_shards

LISTED = [*(Entry(f"{number}.tar", 100, f"v{number}") for number in range(4)), END]
STARTS = (0, 7, 14, 21, 28)


def written(path: Path, lines: int = 5, failed: int | None = None) -> Ledger:
    """A ledger of shards of seven items."""
    ledger = Ledger(path / LEDGER)
    for number, (entry, start) in enumerate(zip(LISTED[:lines], STARTS, strict=False)):
        ledger.note(number, replace(entry, start=start, failed="why" if number == failed else ""))
    return Ledger(path / LEDGER)


def parts(*items: int) -> dict[int, Receipt]:
    """Receipts of parts of so many items, one of each refused."""
    made = (Receipt(Shard("", "", count - 1, 0), {"empty": 1}) for count in items)
    return dict(enumerate(made))


def never(number: int) -> bool:
    raise AssertionError(f"shard {number} is asked for")


def test_a_run_begins_at_the_beginning(tmp_path: Path) -> None:
    assert Ledger(tmp_path / LEDGER).place(LISTED, {}, never) == Place()
    assert written(tmp_path).place(LISTED, {}, never) == Place()


def test_it_goes_on_in_the_shard_in_which_the_next_part_begins(tmp_path: Path) -> None:
    ledger = written(tmp_path, lines=3)
    assert ledger.place(LISTED, parts(5, 5), never) == Place(part=2, shard=1, start=7, items=3)
    assert ledger.place(LISTED, parts(5, 9), never) == Place(part=2, shard=2, start=14, items=0)


def test_parts_behind_one_that_is_missing_do_not_count(tmp_path: Path) -> None:
    receipts = parts(5, 5, 5)
    del receipts[1]
    assert written(tmp_path).place(LISTED, receipts, never) == Place(part=1, shard=0, start=0, items=5)


def test_when_all_is_read_nothing_is_left(tmp_path: Path) -> None:
    assert written(tmp_path).place(LISTED, parts(10, 10, 8), never) == Place(3, 4, 28, 0)


def test_parts_of_a_shard_that_changed_do_not_count(tmp_path: Path) -> None:
    for changed in (replace(LISTED[2], tag="other"), replace(LISTED[2], size=99), Entry("1b.tar", 100, "v2")):
        listed = [*LISTED[:2], changed, *LISTED[3:]]
        assert written(tmp_path).place(listed, parts(5, 5, 5, 5), never) == Place(2, 1, 7, 3)
        (tmp_path / LEDGER).unlink()


def test_the_last_part_was_cut_short_where_the_list_ended(tmp_path: Path) -> None:
    listed = [*LISTED[:4], Entry("4.tar", 100, "v4"), END]
    assert written(tmp_path).place(listed, parts(10, 10, 8), never) == Place(2, 2, 14, 6)


def test_a_shard_that_did_not_come_is_asked_for_again(tmp_path: Path) -> None:
    asked = list[int]()
    ledger = Ledger(tmp_path / LEDGER)
    for number, (entry, start) in enumerate(zip(LISTED, (0, 7, 8, 15, 22), strict=True)):
        ledger.note(number, replace(entry, start=start, failed="why" if start == 7 else ""))
    assert ledger.failed == 1
    assert ledger.place(LISTED, parts(5, 5), lambda number: asked.append(number) or False) == Place(
        2, 2, 8, 2
    )
    assert ledger.place(LISTED, parts(5, 5), lambda number: True) == Place(1, 0, 0, 5)
    assert asked == [1]


def test_one_that_did_not_come_and_stands_last_is_not_read_again(tmp_path: Path) -> None:
    ledger = written(tmp_path, lines=3, failed=2)
    assert ledger.place(LISTED, parts(8, 7), lambda number: False) == Place(2, 3, 15, 0)


def test_one_that_comes_no_more_is_asked_for_until_its_item_is_in_a_part(tmp_path: Path) -> None:
    ledger = written(tmp_path, lines=2)
    ledger.note(2, replace(LISTED[2], start=14, failed="why", given=3))
    for place, items in ((Place(2, 2, 14, 3), 9), (Place(2, 3, 18, 0), 10)):
        assert Ledger(tmp_path / LEDGER).place(LISTED, parts(8, items), lambda number: False) == place


def test_a_line_that_was_cut_is_none(tmp_path: Path) -> None:
    written(tmp_path, lines=3)
    path = tmp_path / LEDGER
    path.write_text(path.read_text()[:-9])
    assert count_shards(tmp_path) == 2
    ledger = Ledger(path)
    ledger.note(2, replace(LISTED[2], start=14))
    assert count_shards(tmp_path) == 3


def test_a_ledger_that_cannot_be_read_is_said_and_not_begun_anew(tmp_path: Path) -> None:
    (tmp_path / LEDGER).mkdir()
    with pytest.raises(IsADirectoryError):
        Ledger(tmp_path / LEDGER)
