"""A target is old or new and never half of either; what is no file is left alone."""

from pathlib import Path

import pytest

from blip import atomic
from blip.atomic import atomic_path, put_in_place, write_text
from blip.errors import BlipError


def test_a_device_is_not_replaced() -> None:
    with pytest.raises(BlipError, match="/dev/null is a device"):
        write_text(Path("/dev/null"), "text")
    assert Path("/dev/null").is_char_device()


def test_a_folder_that_cannot_be_removed_is_not_half_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target, new = tmp_path / "model", tmp_path / "new"
    for folder, text in ((target, "old"), (new, "new")):
        folder.mkdir()
        (folder / "weights").write_text(text)

    def killed(path: Path) -> None:
        raise KeyboardInterrupt(path)

    monkeypatch.setattr(atomic, "_remove", killed)
    with pytest.raises(KeyboardInterrupt, match=r"\.old\.tmp"):
        put_in_place(new, target)
    assert (target / "weights").read_text() == "new"


def test_an_error_leaves_what_was_there(tmp_path: Path) -> None:
    write_text(tmp_path / "a", "old")
    with pytest.raises(ValueError, match="no"), atomic_path(tmp_path / "a") as temporary:
        temporary.write_text("new")
        raise ValueError("no")
    assert (tmp_path / "a").read_text() == "old"
    assert [path.name for path in tmp_path.iterdir()] == ["a"]
