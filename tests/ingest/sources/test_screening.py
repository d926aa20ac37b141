"""Texts that cannot be used are left out and counted; keys are new; nothing else is lost."""

from pathlib import Path

from blip.data.sample import Caption, Question, Sample
from blip.ingest.sources.refused import Refused
from blip.ingest.sources.screening import screened

from .reading import details, items, reasons, samples, texts, write


def sample(key: str, *captions: str, **fields) -> Sample:
    return Sample(key, b"M", "png", tuple(Caption(text, "web") for text in captions), **fields)


def test_sound_samples_go_through_as_they_are() -> None:
    found = [sample("a", "one \U0001f469\u200d\U0001f680", "zwei Äpfel"), Refused("b", "missing_file", "x")]
    assert list(screened(found)) == found


def test_a_second_sample_of_a_key_is_refused_with_its_picture() -> None:
    one, two = screened([sample("a", "one"), sample("a", "two")])
    assert isinstance(one, Sample)
    why = "another sample has the key a: names of files have to differ without their endings"
    assert two == Refused("a", "duplicate", why, b"M")


def test_each_fault_of_a_text_has_its_reason() -> None:
    faulty = {
        "broken_text": "caf\ufffd",
        "control_characters": "bell\x07",
        "caption_too_long": "x" * 11,
        "no_caption": "",
    }
    for reason, text in faulty.items():
        (refused,) = screened([sample("a", text)], max_chars=10)
        assert isinstance(refused, Refused)
        assert (refused.key, refused.reason, refused.payload) == ("a", reason, b"M")
    (half,) = screened([sample("a", "half a pair \ud83d")])
    assert isinstance(half, Refused) and half.reason == "broken_text"


def test_a_sample_goes_on_with_its_other_texts() -> None:
    *refused, kept = screened([sample("a", "one", "bell\x07", "two", "")])
    assert isinstance(kept, Sample) and texts(kept) == [("one", "web"), ("two", "web")]
    assert [(r.reason, r.payload) for r in refused if isinstance(r, Refused)] == [
        ("control_characters", b"bell\x07"),
        ("empty_caption", b""),
    ]
    assert details(refused)[0][1] == r"the text has the control character U+0007: 'bell\x07'"


def test_questions_and_answers_are_held_to_the_same() -> None:
    asked = (Question("what?", {"a \ufffd": 1.0}, True), Question("which?", {"b": 1.0}, True))
    refused, kept = screened([sample("a", questions=asked)])
    assert isinstance(kept, Sample) and kept.questions == asked[1:]
    assert isinstance(refused, Refused) and (refused.reason, refused.payload) == ("broken_text", b"what?")


def test_a_sample_of_which_nothing_is_said_is_refused() -> None:
    (refused,) = screened([sample("a")])
    assert isinstance(refused, Refused) and refused.reason == "no_caption"


def test_a_megabyte_long_caption_is_refused_and_its_row_told(tmp_path: Path) -> None:
    write(tmp_path / "captions.csv", "image,caption", "a.png," + "long " * 200_000, "b.png,short")
    for name in ("a.png", "b.png"):
        write(tmp_path / name, "A")
    found = items(tmp_path, "table")
    assert list(samples(found)) == ["b"]
    assert reasons(found) == {"a": "caption_too_long"}
    assert (
        "999,999 characters, more than ingest.max_caption_chars = 10,000: 'long long" in details(found)[0][1]
    )


def test_broken_utf_8_beside_a_picture_is_refused(tmp_path: Path) -> None:
    for name in ("latin", "mixed", "empty", "blank lines"):
        write(tmp_path / f"{name}.png", "A")
    (tmp_path / "latin.txt").write_bytes(b"caf\xe9\n")
    (tmp_path / "mixed.txt").write_bytes(b"a cafe\ncaf\xe9\n")
    (tmp_path / "empty.txt").write_bytes(b"")
    (tmp_path / "blank lines.txt").write_bytes(b"\xef\xbb\xbf\r\n\r\nat last\r\n")
    found = items(tmp_path, "folder")
    assert [texts(s) for s in samples(found).values()] == [[("at last", "web")], [("a cafe", "web")]]
    assert reasons(found) == {"empty": "no_caption", "latin": "broken_text", "mixed": "broken_text"}
