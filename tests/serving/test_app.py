"""`blip app`: a real server with small models, asked as its page asks, and opened in a browser."""

import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from html import escape
from pathlib import Path
from typing import NamedTuple

import httpx
import psutil
import pytest
from gradio import HTML
from gradio_client import Client, handle_file
from gradio_client.exceptions import AppError
from PIL import Image

from blip import load
from blip.commands.app import summary
from blip.errors import BlipError
from blip.serving.app import Page, build
from blip.serving.examples import asked, captioned
from blip.serving.service import MAX_BYTES, Role, Service
from tests import public_files, tiny
from tests.ports import free_port
from tests.processes import running

ROOT = Path(__file__).parents[2]
BROWSER = Path("/usr/bin/chromium")


class Opened(NamedTuple):
    """A page that is up."""

    url: str
    process: "subprocess.Popen[str]"
    said: str


@contextmanager
def page(folder: Path, *arguments: object) -> Iterator[Opened]:
    """`blip app` in an empty folder, with temporary files in another one, as soon as it says where it is."""
    (folder / "work").mkdir()
    (folder / "temporary").mkdir()
    url = f"http://127.0.0.1:{(port := free_port())}"
    command = [sys.executable, "-m", "blip", "app", "--device", "cpu", "--port", port, *arguments]
    own = {"TMPDIR": str(folder / "temporary"), "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    with running(
        list(map(str, command)),
        cwd=folder / "work",
        env=os.environ | own,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    ) as process:
        assert process.stdout is not None
        said = ""
        for line in process.stdout:
            said += line
            if url in line:
                break
        assert url in said, said
        yield Opened(url, process, said)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.save(tmp_path_factory.mktemp("models") / "tiny", 3)


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("pictures")
    for name in ("red", "green", "blue"):
        Image.new("RGB", (48, 40), name).save(folder / f"{name}.png")
    return folder


@pytest.fixture(scope="module")
def opened(model: Path, pictures: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Opened]:
    """The page of one model in all roles."""
    roles = [word for role in ("caption", "match", "answer") for word in (f"--{role}", model)]
    with page(tmp_path_factory.mktemp("page"), *roles, "--pictures", pictures) as up:
        yield up


@pytest.fixture(scope="module")
def client(opened: Opened, tmp_path_factory: pytest.TempPathFactory) -> Client:
    return Client(opened.url, verbose=False, download_files=str(tmp_path_factory.mktemp("got")))


def scores(html: str) -> list[float]:
    """The numbers beside the bars."""
    return [float(found) for found in re.findall(r"<b>(-?[\d.]+)</b>", html)]


def test_the_terminal_says_what_is_open_and_where(opened: Opened, model: Path):
    lines = [line.split() for line in opened.said.splitlines()]
    assert ["caption", str(model), "0.3M", "parameters", "on", "cpu"] in lines
    assert next(line for line in lines if line[0] == "search")[-2:] == ["3", "pictures"]


def test_captions_are_those_of_the_model(client: Client, model: Path, pictures: Path):
    red = pictures / "red.png"
    written = client.predict(handle_file(red), "greedy", 1, 0, api_name="/caption")
    (text,) = re.findall(r'class="said">(.*?)</p>', written)
    assert text == load(str(model)).caption([red], "greedy")[0]
    several = client.predict(handle_file(red), "nucleus", 8, 1, api_name="/caption")
    assert len(scores(several)) > 1 and scores(several) == sorted(scores(several), reverse=True)


def test_texts_have_both_scores(client: Client, model: Path, pictures: Path):
    texts = ["a red apple", "the dog"]
    shown = client.predict(handle_file(pictures / "red.png"), "\n".join(texts), api_name="/match")
    itm, itc = (load(str(model)).match([pictures / "red.png"], texts, head)[0] for head in ("itm", "itc"))
    expected = [number.item() for pair in zip(itm, itc, strict=True) for number in pair]
    assert scores(shown) == pytest.approx(expected, abs=6e-4)


def test_an_answer_is_written_or_chosen(client: Client, model: Path, pictures: Path):
    red = handle_file(pictures / "red.png")
    free = load(str(model)).answer([pictures / "red.png"], ["what is it?"])[0]
    assert f">{free or '(nothing)'}</p>" in client.predict(red, "what is it?", "", api_name="/answer")
    chosen = client.predict(red, "what is it?", "green\ntable", api_name="/answer")
    assert ">green</p>" in chosen or ">table</p>" in chosen


def test_words_have_heat_maps(client: Client, pictures: Path):
    drawn, said = client.predict(handle_file(pictures / "red.png"), "red ☃ apple", api_name="/explain")
    with Image.open(drawn) as image:
        assert image.format == "PNG" and image.width > image.height
    assert "Left out: ☃ (unknown to the model)" in said


def test_pictures_are_found_by_text_and_by_picture(client: Client, pictures: Path):
    found = client.predict("a red apple", 2, api_name="/search")
    caption = re.compile(r"\w+\.png · match [\d.]+, cosine -?[\d.]+")
    assert len(found) == 2 and all(caption.fullmatch(one["caption"]) for one in found)
    similar = client.predict(handle_file(pictures / "green.png"), 3, api_name="/similar")
    assert similar[0]["caption"] == "green.png · cosine 1.00" and len(similar) == 3


def test_a_picture_whose_name_is_not_utf8_is_found(model: Path, pictures: Path, tmp_path: Path):
    (folder := tmp_path / os.fsdecode(b"\xe9t\xe9")).mkdir()
    shutil.copy(pictures / "red.png", folder / os.fsdecode(b"caf\xe9.png"))
    with page(tmp_path, "--match", model, "--pictures", folder) as up:
        asking = Client(up.url, verbose=False, download_files=str(tmp_path / "got"))
        (found,) = asking.predict("a red apple", 1, api_name="/search")
        assert found["caption"].startswith("caf\\udce9.png · match ")
        (folder / os.fsdecode(b"caf\xe9.png")).unlink()
        with pytest.raises(AppError, match=re.escape("none of the pictures of ")):
            asking.predict("a red apple", 1, api_name="/search")


LARGE = 16 * 3000 * 2000 * 4  # bytes of the pictures below, decoded
HELD = """
import sys
from pathlib import Path
from blip.serving.service import Service
from blip.training.memory import peak_bytes
model, small, large = sys.argv[1:]
Service.open({"match": model}, "cpu", Path(small), print).search("a red apple", 3)
before = peak_bytes()
service = Service.open({"match": model}, "cpu", Path(large), print)
found = service.search("a red apple", 16)
assert [max(one.picture.size) for one in found] == [1024] * 16
print(peak_bytes() - before)
"""


def test_a_search_does_not_hold_its_pictures_at_their_full_size(model: Path, pictures: Path, tmp_path: Path):
    Image.new("RGB", (3000, 2000), "red").save(tmp_path / "0.jpg")
    for number in range(1, 16):
        shutil.copy(tmp_path / "0.jpg", tmp_path / f"{number}.jpg")
    command = [sys.executable, "-c", HELD, model, pictures, tmp_path]
    held = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True, cwd=ROOT).stdout
    assert int(held) < LARGE / 2


def test_a_picture_that_has_gone_or_broken_since_is_left_out(model: Path, pictures: Path, tmp_path: Path):
    folder, told = tmp_path / "pictures", []
    shutil.copytree(pictures, folder)
    service = Service.open({"match": str(model)}, "cpu", folder, told.append)
    (folder / "red.png").unlink()
    for found in (service.search("a red apple", 3), service.similar((pictures / "red.png").read_bytes(), 2)):
        assert {one.place.text for one in found} == {"green.png", "blue.png"}
    assert told == [f"picture {folder / 'red.png'} cannot be read: No such file or directory"] * 2
    for name in ("green", "blue"):
        (folder / f"{name}.png").write_bytes(b"no picture")
    with pytest.raises(
        BlipError, match=f"none of the pictures of {folder} that were found can be read any more"
    ):
        service.search("a red apple", 3)


def test_names_share_one(client: Client, pictures: Path):
    told = client.predict(
        handle_file(pictures / "red.png"), "dog\napple\ntable", "a {}", api_name="/classify"
    )
    assert {one["label"] for one in told["confidences"]} == {"dog", "apple", "table"}
    assert sum(one["confidence"] for one in told["confidences"]) == pytest.approx(1)


@pytest.mark.parametrize(
    ("endpoint", "arguments", "said"),
    [
        ("/caption", ["magic", 1, 0], "it is one of greedy, beam, nucleus"),
        ("/caption", ["nucleus", 99, 0], "99 captions: a whole number from 1 to 8 is expected"),
        ("/match", [" \n "], "0 text(s): write 1 to 50, a line each"),
        ("/match", ["an apple\n..."], "the text '...' has no word: write some"),
        ("/match", ["a" * 2001], "the text has 2,001 characters, more than the 2,000 that are read"),
        ("/answer", ["", ""], "the question '' has no word: write some"),
        ("/classify", ["dog", "{}"], "1 name(s): write 2 to 200, a line each"),
        ("/classify", ["dog\ncat", "a dog"], "has no {}, where a name goes"),
        ("/explain", ["☃"], "has no word to look for in the image"),
    ],
)
def test_what_a_visitor_got_wrong_is_said(
    client: Client, pictures: Path, endpoint: str, arguments: list[object], said: str
):
    with pytest.raises(AppError, match=re.escape(escape(said))):
        client.predict(handle_file(pictures / "red.png"), *arguments, api_name=endpoint)


def test_without_a_picture_it_says_how_to_give_one(client: Client):
    with pytest.raises(AppError, match="there is no picture: drop one into its place"):
        client.predict(None, "an apple", api_name="/match")


def test_what_is_no_picture_and_one_of_too_many_pixels_are_refused(client: Client, tmp_path: Path):
    (tmp_path / "notes.png").write_text("no picture")
    Image.new("1", (30_000, 30_000)).save(tmp_path / "bomb.png")
    for name, said in (
        ("notes", "cannot be used as a picture: 10 bytes"),
        ("bomb", "30000 x 30000 pixels, more"),
    ):
        with pytest.raises(AppError, match=said):
            client.predict(handle_file(tmp_path / f"{name}.png"), "an apple", api_name="/match")


@pytest.mark.parametrize(
    "sizes", [[MAX_BYTES + 1], [MAX_BYTES // 2 + (1 << 20)] * 2], ids=["one", "together"]
)
def test_uploads_are_bounded_in_bytes(opened: Opened, sizes: list[int]):
    files = [("files", (f"{number}.png", b"x" * size)) for number, size in enumerate(sizes)]
    assert httpx.post(f"{opened.url}/gradio_api/upload", files=files).status_code == 413


@pytest.mark.parametrize("path", [str(ROOT / "README.md"), "https://example.com/cat.png"])
def test_a_visitor_names_no_file_and_no_address(opened: Opened, path: str):
    page = httpx.get(f"{opened.url}/config").json()
    (number,) = [one["id"] for one in page["dependencies"] if one["api_name"] == "match"]
    picture = {"path": path, "meta": {"_type": "gradio.FileData"}}
    asked = {"data": [picture, "an apple"], "fn_index": number, "session_hash": "visitor"}
    joined = httpx.post(f"{opened.url}/gradio_api/queue/join", json=asked)
    if path.startswith("https"):
        assert (joined.status_code, joined.text) == (
            403,
            "a picture is uploaded: this page fetches no addresses",
        )
    else:
        told = httpx.get(f"{opened.url}/gradio_api/queue/data?session_hash=visitor", timeout=60).text
        assert '"success":false' in told and "bytes that begin with" not in told
    assert httpx.get(f"{opened.url}/gradio_api/file={path}").status_code == 403
    assert httpx.get(opened.url, headers={"host": "rebound.example"}).status_code == 400


def test_what_is_written_reaches_the_page_as_text(client: Client, pictures: Path):
    text = "<img src=x onerror=alert(1)>"
    shown = client.predict(handle_file(pictures / "red.png"), f"an apple {text}", api_name="/match")
    assert text not in shown and "&lt;img src=x" in shown


@pytest.mark.skipif(not BROWSER.is_file(), reason=f"there is no {BROWSER}")
def test_a_browser_shows_the_page_without_any_other_host(opened: Opened, model: Path, tmp_path: Path):
    alone = "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1"
    options = ["--headless", "--no-sandbox", "--disable-gpu", f"--user-data-dir={tmp_path}", alone]
    command = [BROWSER, *options, "--virtual-time-budget=20000", "--dump-dom", opened.url]
    shown = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True).stdout
    body = shown[shown.index("<body") :]
    assert re.findall(r'role="tab"[^>]*>\s*(?:<!--.*?-->)*(\w+)', body) == [
        "Caption", "Match", "Ask", "Explain", "Search", "Classify",
    ]  # fmt: skip
    assert f"<code>{model}</code>" in body and "0.3M parameters" in body and "on CPU" in body


@pytest.mark.parametrize(
    ("number", "host"),
    [(signal.SIGTERM, "127.0.0.1"), (signal.SIGHUP, "127.0.0.1"), (signal.SIGINT, "0.0.0.0")],
)
def test_a_signal_ends_it_with_nothing_left(
    model: Path, pictures: Path, tmp_path: Path, number: signal.Signals, host: str
):
    with page(tmp_path, "--match", model, "--host", host) as up:
        client = Client(up.url, verbose=False, download_files=str(tmp_path / "got"))
        client.predict(handle_file(pictures / "red.png"), "an apple", api_name="/match")
        assert list((tmp_path / "temporary").iterdir())
        family = psutil.Process(up.process.pid).children(recursive=True)
        up.process.send_signal(number)
        rest, _ = up.process.communicate(timeout=60)
    assert (up.process.returncode, rest) == (0, "\nthe page is closed\n")
    assert not [one for one in family if one.is_running()]
    assert not list((tmp_path / "temporary").iterdir()) and not list((tmp_path / "work").iterdir())
    assert ("lets other machines open the page" in up.said) == (host == "0.0.0.0")


def tabs(names: "dict[Role, str]", pictures: Path | None = None) -> list[str]:
    service = Service.open(names, "cpu", pictures, print)
    return [block.label for block in build(Page(service)).blocks.values() if type(block).__name__ == "Tab"]


def test_a_tab_is_there_only_when_a_model_is(model: Path, pictures: Path):
    assert tabs({"caption": str(model)}) == ["Caption"]
    assert tabs({"answer": str(model)}, pictures) == ["Ask"]
    assert tabs({"match": str(model)}) == ["Match", "Explain", "Classify"]
    assert tabs({"match": str(model)}, pictures) == ["Match", "Explain", "Search", "Classify"]


@pytest.mark.parametrize(
    ("most", "said"),
    [(2, "the first 2 pictures: there are more, which are not searched"), (3, "3 pictures")],
)
def test_a_folder_with_more_pictures_than_are_embedded_is_said(
    model: Path, pictures: Path, monkeypatch: pytest.MonkeyPatch, most: int, said: str
):
    monkeypatch.setattr("blip.serving.service.MOST_PICTURES", most)
    service = Service.open({"match": str(model)}, "cpu", pictures, print)
    assert summary(service)[-1] == ("search", str(pictures), said)
    head = next(block for block in build(Page(service)).blocks.values() if isinstance(block, HTML))
    assert f'<dd class="soft">{said}</dd>' in str(head.value)


def test_all_that_asks_a_model_waits_for_its_turn(model: Path, pictures: Path):
    names: dict[Role, str] = {"caption": str(model), "match": str(model), "answer": str(model)}
    service = Service.open(names, "cpu", pictures, print)
    assert len({id(served.model) for served in service.models.values()}) == 1
    functions = {
        one.api_name: one for one in build(Page(service)).fns.values() if one.queue and not one.preprocess
    }
    assert {"caption", "match", "answer", "explain", "search", "similar", "classify"} <= functions.keys()
    assert {(one.concurrency_limit, one.concurrency_id) for one in functions.values()} == {(1, "models")}


def test_a_model_without_the_parts_of_its_role_is_refused(tmp_path: Path):
    tiny.tokenizer().save(tmp_path)
    file = public_files.write(tmp_path / "captioning.pth", public_files.state_of("captioning"))
    with pytest.raises(BlipError, match=r"--match .*captioning.pth: this model cannot match"):
        Service.open({"match": str(file)}, "cpu", None, print)


def test_a_folder_without_a_model_and_a_port_that_is_taken_are_said(
    blip: Callable, opened: Opened, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.chdir(tmp_path)
    ended = blip("app")
    assert ended.code == 1 and "there is no model here: name one with --caption" in ended.err
    ended = blip("app", "--caption", model, "--pictures", tmp_path)
    assert ended.code == 1 and "there is no model that searches; name one with --match" in ended.err
    ended = blip("app", "--caption", model, "--port", opened.url.rpartition(":")[2])
    assert ended.code == 1 and "Address already in use; name another --port" in ended.err


def test_the_sample_gives_pictures_to_begin_with(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(ROOT)
    found = captioned(tmp_path, 8)
    assert len(found) == 8 and all(Image.open(one.picture).width and one.text for one in found)
    assert len({one.text for one in found}) == 8
    assert asked(tmp_path, 4)[0].text.endswith("?")
    monkeypatch.chdir(tmp_path)
    assert captioned(tmp_path, 8) == asked(tmp_path, 8) == []
