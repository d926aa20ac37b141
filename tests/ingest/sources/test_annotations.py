import json
import tracemalloc
from pathlib import Path

from blip.ingest.sources.annotations import Held
from blip.ingest.sources.files import Folder
from blip.ingest.sources.json_stream import is_list, keys_in_head, stream
from blip.ingest.sources.refused import Refused


def test_held_lists_come_back_once_in_the_order_of_their_keys() -> None:
    held = Held()
    for key, value in ((2, "b"), (1, ["a", 0.5]), (2, "c")):
        held.add(key, value)
    assert list(held) == [2, 1]
    assert (held.pop(2), held.pop(1)) == (["b", "c"], [["a", 0.5]])
    assert (held.pop(2), list(held)) == ([], [])


def test_a_large_file_streams(tmp_path: Path) -> None:
    path = tmp_path / "large.json"
    with path.open("w") as file:
        file.write('{"images": [')
        file.writelines(f'{{"id": {n}, "file_name": "{n:0200d}"}},' for n in range(100_000))
        file.write("{}]}")
    assert path.stat().st_size > 20 << 20
    tracemalloc.start()
    count = sum(1 for _ in stream(path, "images.item"))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert count == 100_001
    assert peak < 1 << 20


def test_the_head_of_a_file_tells_its_keys(tmp_path: Path) -> None:
    path = tmp_path / "x.json"
    path.write_bytes(b"\xef\xbb\xbf" + json.dumps({"a": [{"b": 1}, {"c": {"d": 2}}]}).encode())
    assert keys_in_head(path) == {"a", "a.item.b", "a.item.c", "a.item.c.d"}
    assert not is_list(path)
    path.write_bytes(b'\xef\xbb\xbf \n[{"q": "caf\xe9"')
    assert keys_in_head(path) == {"item.q"}
    assert is_list(path)


def test_a_name_too_long_for_a_file_is_a_missing_one(tmp_path: Path) -> None:
    found = Folder(tmp_path).find("x" * 5000 + ".jpg")
    assert isinstance(found, Refused) and found.reason == "missing_file"


def test_a_folder_called_like_a_picture_is_none(tmp_path: Path) -> None:
    (tmp_path / "a.png").mkdir()
    found = Folder(tmp_path).find("a.png")
    assert isinstance(found, Refused) and found.reason == "missing_file"
