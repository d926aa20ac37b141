"""Captions that need no judge."""

import pytest

from blip.capfilt.rules import rejected


@pytest.mark.parametrize(
    "text",
    ["red red red", "a cat a cat", "on the table on the table", "a red cat and a red cat", "the the the dog"],
)
def test_a_caption_that_repeats_itself_is_rejected(text: str) -> None:
    assert rejected(text) == "repeats"


@pytest.mark.parametrize(
    "text", ["a cat and a dog", "red red apple", "a man in a hat on a horse", "bora bora"]
)
def test_words_may_come_back(text: str) -> None:
    assert rejected(text) == ""


def test_an_empty_caption_and_a_copied_prompt_are_rejected() -> None:
    assert rejected("  ") == "empty"
    assert rejected("a picture of a cat", prompt="a picture of ") == "prompt"
    assert rejected("a cat", prompt="a picture of ") == ""


def test_repeating_itself_is_no_reason_where_it_is_not_asked_for() -> None:
    text = "a man in a red shirt and a man in a blue shirt"
    assert rejected(text) == "repeats"
    assert rejected(text, repeats=False) == ""
    assert rejected("", repeats=False) == "empty"
