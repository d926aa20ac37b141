import os
from collections import Counter
from pathlib import Path

import pytest

from blip.data.pairs import Question
from blip.errors import BadArguments, BlipError
from blip.ingest.sources import Refused
from blip.ingest.sources.refused import key_of
from tests.accounts import as_nobody

from .reading import details, items, reasons, samples, texts, write, write_table, write_tar


def test_a_table_joins_rows_and_archive_with_and_without_extension(tmp_path: Path) -> None:
    write(tmp_path / "captions.csv", "image,caption", "a.webp,one", 'b,"two, with a  comma"', "a.webp,uno")
    write_tar(tmp_path / "images.tar", {"./b.png": b"B", "a.webp": b"A"})
    found = items(tmp_path, "table")
    assert [(s.key, s.media, s.extension) for s in samples(found).values()] == [
        ("b", b"B", "png"),
        ("a", b"A", "webp"),
    ]
    assert texts(samples(found)["a"]) == [("one", "web"), ("uno", "web")]
    assert texts(samples(found)["b"]) == [("two, with a comma", "web")]


def test_a_table_finds_pictures_in_the_folder(tmp_path: Path) -> None:
    write(tmp_path / "captions.csv", "image,caption", "sub/a.JPG,one", "b,two")
    write(tmp_path / "sub/a.JPG", "A")
    write(tmp_path / "b.webp", "B")
    found = samples(items(tmp_path, "table"))
    assert [(s.extension, s.media) for s in found.values()] == [("jpg", b"A\n"), ("webp", b"B\n")]
    assert list(found) == [key_of("sub/a.JPG"), "b"]


@pytest.mark.parametrize("extension", ["csv", "tsv", "jsonl", "parquet"])
def test_every_form_of_table_gives_the_same(tmp_path: Path, extension: str) -> None:
    rows = [{"image": "a.png", "caption": "007"}, {"image": "a.png", "caption": "00"}]
    write_table(tmp_path / f"captions.{extension}", rows)
    write(tmp_path / "a.png", "A")
    assert texts(samples(items(tmp_path, "table"))["a"]) == [("007", "web"), ("00", "web")]


def test_the_truth_is_typed_by_column(tmp_path: Path) -> None:
    write(tmp_path / "captions.csv", "image,caption", "a.png,x", "b.png,y")
    write(
        tmp_path / "truth.csv", "image,matched,score,concept,note", "a.png,1,0.5,2705,", "b.png,0,1,1F60D,007"
    )
    for name in ("a.png", "b.png"):
        write(tmp_path / name, "A")
    found = samples(items(tmp_path, "table"))
    assert found["a"].truth == {"matched": 1, "score": 0.5, "concept": "2705", "note": ""}
    assert found["b"].truth == {"matched": 0, "score": 1.0, "concept": "1F60D", "note": "007"}


def test_what_does_not_join_is_refused_with_a_reason(tmp_path: Path) -> None:
    write(
        tmp_path / "captions.csv", "image,caption", "a.png,one", "gone.png,two", "empty.png,", "c.xyz,three"
    )
    files = {"a.png": b"A", "./a.png": b"again", "stray.png": b"S", "empty.png": b"E", "c.xyz": b"C"}
    write_tar(tmp_path / "images.tar", files)
    found = items(tmp_path, "table")
    assert list(samples(found)) == ["a"]
    assert Counter(item.reason for item in found if isinstance(item, Refused)) == Counter(
        ["duplicate", "not_listed", "no_caption", "unsupported", "missing_file"]
    )


def test_names_that_lead_out_of_the_folder_are_refused(tmp_path: Path) -> None:
    write(tmp_path / "secret.png", "S")
    folder = tmp_path / "source"
    write(
        folder / "captions.csv",
        "image,caption",
        "../secret.png,one",
        f"{tmp_path}/secret.png,two",
        "link.png,three",
    )
    (folder / "link.png").symlink_to(tmp_path / "secret.png")
    found = items(folder, "table")
    assert set(reasons(found).values()) == {"unsafe_member"}
    assert len(found) == 3


def test_a_truncated_archive_is_one_refusal_and_missing_files(tmp_path: Path) -> None:
    write(tmp_path / "captions.csv", "image,caption", "a.png,one", "b.png,two")
    write_tar(tmp_path / "images.tar", {"a.png": b"A" * 600, "b.png": b"B" * 600})
    (tmp_path / "images.tar").write_bytes((tmp_path / "images.tar").read_bytes()[:2200])
    found = items(tmp_path, "table")
    assert list(samples(found)) == ["a"]
    assert list(reasons(found).values()) == ["truncated_archive", "missing_file"]


def test_a_missing_folder_table_or_column_is_named(tmp_path: Path) -> None:
    with pytest.raises(BlipError, match="nowhere: no such folder"):
        items(tmp_path / "nowhere", "table")
    with pytest.raises(BlipError, match=r"no table captions\.\{csv,tsv,jsonl,json,parquet\}"):
        items(tmp_path, "table")
    write(tmp_path / "captions.csv", "thing,caption", "a.png,one")
    with pytest.raises(
        BlipError, match=r"captions\.csv: no column has a usual name of the image .* it has: thing, caption"
    ):
        items(tmp_path, "table")


def test_questions_gather_their_answers(tmp_path: Path) -> None:
    rows = [
        "a.png,what is it?,cat,1",
        "a.png,what is it?,cat,1",
        "a.png,what is it?,dog,1",
        "a.png,is it a cat?,yes,0",
    ]
    write(tmp_path / "questions.csv", "image,question,answer,open", *rows)
    write_tar(tmp_path / "images.tar", {"a.png": b"A"})
    assert samples(items(tmp_path, "vqa"))["a"].questions == (
        Question("what is it?", {"cat": 2 / 3, "dog": 1 / 3}, open=True, annotators=3),
        Question("is it a cat?", {"yes": 1.0}, open=False, annotators=1),
    )


@pytest.mark.parametrize("tar", [False, True])
def test_every_question_without_picture_is_counted(tmp_path: Path, tar: bool) -> None:
    rows = ["a.png,what is it?,cat", ",is it?,yes", ",or?,no", ",what is it?,"]
    write(tmp_path / "questions.csv", "image,question,answer", *rows)
    if tar:
        write_tar(tmp_path / "images.tar", {"a.png": b"A"})
    else:
        write(tmp_path / "a.png", "A")
    found = items(tmp_path, "vqa")
    assert list(samples(found)) == ["a"]
    assert details(found) == [("no_image", f"row {number} has no picture") for number in (3, 4, 5)]


def test_pictures_that_no_question_asks_about_are_counted_in_a_folder_too(tmp_path: Path) -> None:
    write(tmp_path / "mine/questions.csv", "image,question,answer", "a.png,what is it?,cat", "b,or?,yes")
    for name in ("a.png", "b.jpg", "c.png", "deep/d.jpg"):
        write(tmp_path / "mine" / name, name)
    found = items(tmp_path / "mine", "vqa")
    assert list(samples(found)) == ["a", "b"]
    nowhere = f"in {tmp_path}/mine is in no row of questions.csv"
    assert details(found) == [("not_listed", f"{name} {nowhere}") for name in ("c.png", "deep/d.jpg")]
    assert len(items(tmp_path / "mine", "vqa", images=str(tmp_path / "mine"))) == 2  # which others may share


def test_without_a_column_of_it_a_question_is_open_unless_it_is_answered_yes_or_no(tmp_path: Path) -> None:
    rows = [
        "a.png,what is it?,cat",
        "a.png,is it?,yes",
        "a.png,is it?,No",
        "a.png,or?,yes",
        "./a.png,or?,maybe",
    ]
    write(tmp_path / "questions.csv", "image,question,answer", *rows)
    write(tmp_path / "a.png", "A")
    (sample,) = samples(items(tmp_path, "vqa")).values()
    assert {q.text: (q.open, q.annotators) for q in sample.questions} == {
        "what is it?": (True, 1),
        "is it?": (False, 2),
        "or?": (True, 2),
    }


def test_the_columns_of_questions_may_be_named(tmp_path: Path) -> None:
    write(tmp_path / "questions.csv", "bild,frage,answer", "a.png,what is it?,cat")
    write(tmp_path / "a.png", "A")
    named = {"image": "bild", "caption": "frage"}
    (sample,) = samples(items(tmp_path, "vqa", columns=named)).values()
    assert [q.text for q in sample.questions] == ["what is it?"]
    with pytest.raises(
        BlipError, match=r"no column has a usual name of the question .* --column caption=NAME"
    ):
        items(tmp_path, "vqa", columns={"image": "bild"})
    write(tmp_path / "questions.csv", "image,question", "a.png,what is it?")
    with pytest.raises(
        BlipError, match=r"of the answer \(answer, answers, response, ...\).*: call it answer"
    ):
        items(tmp_path, "vqa")


@pytest.mark.parametrize(
    ("kind", "option", "flag"),
    [
        ("folder", {"images": "x"}, "`images` (--images)"),
        ("webdataset", {"split": "train"}, "`split` (--split)"),
        ("table", {"split": "train"}, "`split` (--split)"),
        ("coco", {"columns": {"image": "x"}}, "`columns` (--column)"),
    ],
)
def test_an_option_that_a_kind_does_not_use_is_refused(
    tmp_path: Path, kind: str, option: dict, flag: str
) -> None:
    with pytest.raises(BadArguments) as caught:
        items(tmp_path, kind, **option)
    assert f"{flag} does nothing for the kind {kind}; leave it out" in str(caught.value)


def test_clips_come_from_their_archive(tmp_path: Path) -> None:
    write(tmp_path / "captions.csv", "image,caption", "clip-1,a wave")
    write_tar(tmp_path / "clips.tar", {"clip-1.mp4": b"C"})
    clip = samples(items(tmp_path, "video", "human"))["clip-1"]
    assert (clip.extension, clip.is_video, texts(clip)) == ("mp4", True, [("a wave", "human")])


def test_a_folder_takes_sidecars(tmp_path: Path) -> None:
    write(tmp_path / "x1.png", "A")
    write(tmp_path / "x1.txt", "a red  apple", "", "an apple")
    write(tmp_path / "x2.jpg", "C")
    write(tmp_path / "x2.TXT", "a pear")
    write(tmp_path / "deep/old_red-car 2.jpg", "B")
    write(tmp_path / "notes.md", "no picture")
    write(tmp_path / "README.txt", "no caption")
    found = items(tmp_path, "folder")
    assert [texts(s) for s in samples(found).values()] == [
        [("a red apple", "web"), ("an apple", "web")],
        [("a pear", "web")],
    ]
    assert details(found) == [("no_caption", "old_red-car 2.jpg has no text beside it, as others have")]


def test_a_text_that_goes_over_lines_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    captions = {
        "x1": ["A Roman coin, worn at", "the edge, with the head of", "an emperor."],
        "x2": ["A red apple.", "an apple on a table."],
        "x3": ["a red apple", "an apple"],
        "x4": ["A red apple", "an apple on a table"],
        "x5": ["A red apple."],
    }
    for name, lines in captions.items():
        write(tmp_path / f"{name}.png", "A")
        write(tmp_path / f"{name}.txt", *lines)
    for _ in range(2):
        assert [len(s.captions) for s in samples(items(tmp_path, "folder")).values()] == [3, 2, 2, 2, 1]
    assert capsys.readouterr().err == (
        f"note: {tmp_path}: each line of a .txt is a caption of its own, and 1 of 4 with several lines look like one "
        "text that goes over lines; put such a text on one line\n"
    )


@pytest.mark.parametrize("text", ["", "\n \n", "None\n"])
def test_a_sidecar_without_a_caption_is_said_to_be_empty(tmp_path: Path, text: str) -> None:
    for name in ("v1.png", "v2.png", "v2.txt"):
        write(tmp_path / name, "a red apple")
    (tmp_path / "v1.txt").write_text(text)
    found = items(tmp_path, "folder")
    assert list(samples(found)) == ["v2"]
    assert details(found) == [("no_caption", "v1.txt beside v1.png is empty, or no line of it is a caption")]


def test_a_folder_without_sidecars_takes_names(tmp_path: Path) -> None:
    for name in ("deep/old_red-car 2.jpg", "0001.png", "a cat.JFIF"):
        write(tmp_path / name, name)
    found = items(tmp_path, "folder")
    assert sorted((texts(s)[0][0], s.extension) for s in samples(found).values()) == [
        ("a cat", "jpg"),
        ("old red car", "jpg"),
    ]
    assert reasons(found) == {"0001": "no_caption"}


def test_names_that_say_nothing_are_no_captions(tmp_path: Path) -> None:
    for folder, name in (
        ("camera", "IMG_{}"),
        ("hashes", "ab{}cd"),
        ("numbers", "{:06}"),
        ("alike", "a cat {}"),
    ):
        for number in range(12):
            write(tmp_path / folder / f"{name.format(number)}.jpg", "A")
        with pytest.raises(BlipError, match=r"the names of most of its pictures are no captions, as .*\.txt"):
            items(tmp_path / folder, "folder")
        for number in range(12):
            write(tmp_path / folder / f"{name.format(number)}.txt", f"a cat and {number} dogs")
        assert len(samples(items(tmp_path / folder, "folder"))) == 12


@pytest.mark.parametrize("table", ["captions.csv", "metadata.jsonl"])
@pytest.mark.parametrize("pictures", ["holiday beach photo a number{}", "pic{:03}"])
def test_a_table_of_captions_is_not_lost_to_a_folder(tmp_path: Path, table: str, pictures: str) -> None:
    names = [f"{pictures.format(number)}.webp" for number in range(12)]
    for name in (*names, "sub/stray.webp", "sub/stray.txt"):
        write(tmp_path / name, "A")
    write_table(tmp_path / table, [{"image": name, "caption": "the real one"} for name in names])
    with pytest.raises(BlipError) as caught:
        items(tmp_path, "folder")
    assert f"{table} lies there, which kind folder does not read: say kind table" in str(caught.value)
    assert len(samples(items(tmp_path, "table"))) == 12


def test_what_another_program_wrote_beside_texts_and_pictures_is_no_table_of_captions(tmp_path: Path) -> None:
    for name in ("a.webp", "a.txt"):
        write(tmp_path / name, "A")
    (tmp_path / "metadata.json").write_text('[{"camera": "x", "taken": 2024}]')
    assert len(samples(items(tmp_path, "folder"))) == 1


@pytest.mark.parametrize("kind", ["folder", "imagefolder"])
def test_links_to_folders_are_said_and_notes_of_macos_passed_over(tmp_path: Path, kind: str) -> None:
    write(tmp_path / "source/dogs/a dog.jpg", "A")
    write(tmp_path / "source/dogs/._a dog.jpg", "A")
    write(tmp_path / "elsewhere/a cat.jpg", "A")
    (tmp_path / "source/cats").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "source/gone").symlink_to(tmp_path / "nowhere")
    (tmp_path / "source/hounds").symlink_to("dogs")
    found = items(tmp_path / "source", kind)
    assert len(samples(found)) == 1
    assert details(found) == [
        (
            "linked_away",
            f"cats is a link to {tmp_path}/elsewhere, out of {tmp_path}/source; name the folder that holds all as the "
            "source, or put a copy in place of the link",
        ),
        (
            "linked_away",
            f"gone is a link to {tmp_path}/nowhere, which is not there; get that, or take the link away",
        ),
        (
            "unsafe_member",
            f"hounds is a link to a folder, which is not followed; what it has is read as {tmp_path}/source/dogs",
        ),
    ]


@pytest.mark.parametrize("kind", ["folder", "imagefolder"])
def test_a_picture_that_is_a_link_to_elsewhere_is_refused_with_the_way(tmp_path: Path, kind: str) -> None:
    write(tmp_path / "source/dogs/a dog.jpg", "A")
    write(tmp_path / "elsewhere/a cat.jpg", "A")
    (tmp_path / "source/dogs/a cat.jpg").symlink_to(tmp_path / "elsewhere/a cat.jpg")
    found = items(tmp_path / "source", kind)
    assert len(samples(found)) == 1
    way = f"name {tmp_path / 'elsewhere'} as a source of its own, or put the picture itself there"
    ((reason, detail),) = details(found)
    assert reason == "unsafe_member"
    assert detail.endswith(f"a cat.jpg is a link that leads out of {tmp_path / 'source'}; {way}")


@pytest.mark.parametrize("kind", ["folder", "imagefolder"])
def test_a_picture_that_is_a_link_to_nothing_is_counted_once(tmp_path: Path, kind: str) -> None:
    """As in a repository of git-annex whose files were not fetched."""
    for name in ("a dog.jpg", "a dog.txt", "a cat.txt"):
        write(tmp_path / "dogs" / name, "A")
    for name in ("a cat.jpg", "a cow.jpg", "a cow.txt"):
        (tmp_path / "dogs" / name).symlink_to(f"../.git/annex/{name}")
    found = items(tmp_path, kind)
    assert len(samples(found)) == 1
    assert [reason for reason, _ in details(found)] == ["missing_file"] * 2
    assert details(found)[0][1].endswith(
        "a cat.jpg is a link to ../.git/annex/a cat.jpg, which is not there; get that, or take the link away"
    )


def test_a_text_and_a_folder_that_may_not_be_read_cost_themselves(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("a.png", "b.png", "lost+found/c.png"):
        write(tmp_path / "source" / name, name)
        write(tmp_path / "source" / name.replace(".png", ".txt"), "a cat")
    assert len(samples(items(tmp_path / "source", "folder"))) == 3
    assert len(samples(items(tmp_path / "source", "imagefolder"))) == 1
    for path, rights in (
        (tmp_path, 0o711),
        (tmp_path / "source/b.txt", 0),
        (tmp_path / "source/lost+found", 0),
    ):
        path.chmod(rights)
    monkeypatch.chdir(tmp_path)
    with as_nobody():
        found = items(Path("source"), "folder")
        by_class = items(Path("source"), "imagefolder")
    (tmp_path / "source/lost+found").chmod(0o755)
    closed = ("unreadable", "source/lost+found: it is not allowed to read this folder")
    assert list(samples(found)) == ["a"]
    assert details(found) == [("unreadable", "source/b.txt: Permission denied"), closed]
    assert details(by_class)[-1] == closed


def test_notes_of_macos_in_tars_are_passed_over(tmp_path: Path) -> None:
    write(tmp_path / "mine/captions.csv", "image,caption", "a.jpg,a dog")
    write(tmp_path / "tars/._0.tar", "no tar")
    write_tar(tmp_path / "mine/images.tar", {"._a.jpg": b"x", "a.jpg": b"A"})
    write_tar(
        tmp_path / "tars/0.tar", {"._0a.jpg": b"x", "0a.jpg": b"A", "._0a.txt": b"x", "0a.txt": b"a dog"}
    )
    for folder, kind in (("mine", "table"), ("tars", "webdataset")):
        found = items(tmp_path / folder, kind)
        assert (len(samples(found)), reasons(found)) == (1, {})


@pytest.mark.parametrize("kind", ["folder", "imagefolder"])
def test_what_looks_like_a_picture_and_is_not_read_is_counted(tmp_path: Path, kind: str) -> None:
    for name in ("a dog.jpg", "b.HEIC", "c.avif", "d.mp4", "e.psd", "Thumbs.db"):
        write(tmp_path / "dogs" / name, "A")
    found = items(tmp_path, kind)
    assert [texts(s) for s in samples(found).values()] == [[("a dog" if kind == "folder" else "dogs", "web")]]
    assert [reason for reason, _ in details(found)] == ["unsupported"] * 4
    assert details(found)[0][1] == "b.HEIC: 'heic' is not read; save it as jpg, png or webp"


def test_raw_pictures_and_those_of_laboratories_are_counted(tmp_path: Path) -> None:
    unread = [
        f"a.{extension}"
        for extension in ("CR3", "czi", "dcm", "m2ts", "mxf", "nd2", "orf", "raf", "rw2", "svs")
    ]
    for name in ("a cat.jpg", "classes.ts", *unread):
        write(tmp_path / "dogs" / name, "A")
    for kind in ("folder", "imagefolder"):
        found = items(tmp_path, kind)
        assert len(samples(found)) == 1
        told = [f"{name}: {name[2:].lower()!r} is not read; save it as jpg, png or webp" for name in unread]
        assert details(found) == [("unsupported", detail) for detail in told]


def test_what_a_camera_saved_beside_a_picture_and_depths_are_passed_over(tmp_path: Path) -> None:
    for name in ("a cat.JPG", "a cat.CR3", "a cat.mov", "a cat.exr", "a depth.exr", "a dog.cr3"):
        write(tmp_path / "dogs" / name, "A")
    write(tmp_path / "other/a dog.jpg", "A")
    for kind in ("folder", "imagefolder"):
        found = items(tmp_path, kind)
        assert len(samples(found)) == 2
        assert details(found) == [
            ("unsupported", "a dog.cr3: 'cr3' is not read; save it as jpg, png or webp")
        ]


@pytest.mark.parametrize("kind", ["folder", "imagefolder"])
def test_of_two_pictures_with_one_name_but_for_the_ending_the_second_is_refused(
    tmp_path: Path, kind: str
) -> None:
    for name in ("a coin.jpg", "a coin.tif", "a cup.png", "old/a coin.jpg"):
        write(tmp_path / "things" / name, name)
    found = items(tmp_path, kind)
    media = [sample.media for sample in samples(found).values()]
    assert media == [b"a coin.jpg\n", b"a cup.png\n", b"old/a coin.jpg\n"]
    (refused,) = (item for item in found if isinstance(item, Refused))
    assert (refused.reason, refused.payload) == ("duplicate", b"a coin.tif\n")
    assert refused.detail.endswith("names of files have to differ without their endings")


def test_of_two_pictures_of_a_tar_with_one_name_but_for_the_ending_both_are_told(tmp_path: Path) -> None:
    write(tmp_path / "captions.csv", "image,caption", "1.jpg,a cup", "1.png,a coin")
    write_tar(tmp_path / "images.tar", {"1.jpg": b"A", "1.png": b"B"})
    assert details(items(tmp_path, "table")) == [
        ("duplicate", "1.png: 1.jpg has the key 1, too; names have to differ without their endings")
    ]


def test_a_film_among_pictures_is_counted_and_not_held_in_memory(tmp_path: Path) -> None:
    for name in ("a dog.jpg", "clip.mp4", "film.mp4"):
        write(tmp_path / name, "A")
    os.truncate(tmp_path / "film.mp4", (64 << 20) + 1)
    clip, film = (item for item in items(tmp_path, "folder") if isinstance(item, Refused))
    assert (clip.payload, film.payload) == (b"A\n", None)
    assert film.detail == "film.mp4: 'mp4' is not read; save it as jpg, png or webp"


def test_a_text_without_picture_and_a_picture_without_extension_are_counted(tmp_path: Path) -> None:
    for name in (
        "a.jpg",
        "a.txt",
        "gone.txt",
        "photo",
        "photo.txt",
        "b.heic",
        "b.txt",
        "Makefile",
        "LICENSE.txt",
    ):
        write(tmp_path / name, "A")
    found = items(tmp_path, "folder")
    assert list(samples(found)) == ["a"]
    assert sorted(details(found)) == [
        ("missing_file", "gone.txt is a text, no picture of that name is beside it"),
        ("unsupported", "b.heic: 'heic' is not read; save it as jpg, png or webp"),
        ("unsupported", "photo: 'no extension' is not read; save it as jpg, png or webp"),
    ]


def test_keys_are_plain_and_different_for_different_names() -> None:
    assert key_of("train-0001.webp") == "train-0001"
    assert key_of("a b.png") != key_of("a_b.png") != key_of("a/b.png")
    assert all(
        key_of(name).replace("-", "").replace("_", "").isalnum()
        for name in ("a b.c.png", "ä/ö", "x" * 300 + " ")
    )
