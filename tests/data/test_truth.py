"""Whether a web text is right may be said in numbers and in words."""

from pathlib import Path

import pytest

from blip.data.truth import is_matched
from blip.errors import BlipError

TABLE = Path("web/metadata.parquet")


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ((1, 1.0, True, "1", "1.0", "True", "true", " YES"), True),
        ((0, 0.0, False, "0", "0.0", "False", "FALSE", "no"), False),
        ((None, "", " "), None),
    ],
)
def test_numbers_and_words_say_it(values: tuple[object, ...], said: bool | None) -> None:
    assert [is_matched({"key": "a", "truth_matched": value}, TABLE) for value in values] == [said] * len(
        values
    )


def test_a_table_without_the_column_says_nothing() -> None:
    assert is_matched({"key": "a"}, TABLE) is None


@pytest.mark.parametrize("value", [2, 0.5, "maybe"])
def test_what_is_neither_yes_nor_no_is_refused(value: object) -> None:
    with pytest.raises(
        BlipError, match=rf"web/metadata\.parquet, sample a: truth_matched is {value!r}, not one"
    ):
        is_matched({"key": "a", "truth_matched": value}, TABLE)
