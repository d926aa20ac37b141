"""Which kind a source is, by the names of its files and the keys in them.

kind_of(Path("coco/annotations/captions_train2017.json"))    # "coco"
"""

from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import get_args

from blip.config import Columns, SourceKind, is_address
from blip.data.sample import IMAGE_EXTENSIONS
from blip.errors import BadArguments, BlipError
from blip.ingest.sources import columns, hf, msvd, pairs
from blip.ingest.sources.files import files_below
from blip.ingest.sources.folder import Beside, in_words
from blip.ingest.sources.json_stream import keys_in_head
from blip.ingest.sources.refused import extension_in
from blip.ingest.sources.rows import CAPTIONS, EXTENSIONS, TRUTH, column_names
from blip.ingest.sources.urls import EXTENSIONS as LISTS
from blip.ingest.sources.urls import has_addresses, is_url_list

FILES: tuple[tuple[SourceKind, tuple[str, ...]], ...] = (
    ("vqa", tuple(f"questions.{extension}" for extension in EXTENSIONS)),
    ("video", ("clips.tar",)),
    ("table", tuple(f"{name}.{extension}" for name in CAPTIONS for extension in EXTENSIONS)),
    ("hf", (hf.SPLITS, hf.STATE)),
    ("msvd", ("AllVideoDescriptions.txt",)),
)
KEYS: dict[str, SourceKind] = {  # the first key that is found tells
    "images.item.sentences": "karpathy",
    "images.item.open_images_id": "nocaps",
    "questions.item.question_id": "vqav2",
    "annotations.item.question_id": "vqav2",
    "videos.item.video_id": "msrvtt",
    "sentences.item.video_id": "msrvtt",
    "images.item.file_name": "coco",
    "annotations.item.caption": "coco",
    "data.questions": "visdial",
    "data.answers": "visdial",
    "data.dialogs": "visdial",
    "identifier": "nlvr2",
    "item.qas": "visual_genome",
    "item.regions": "visual_genome",
    "item.question_id": "vqav2",
}
CLIP_QUESTIONS = frozenset({"item.question", "item.video_id"})
STATEMENTS = frozenset({"item.sentence", "item.label", "item.images"})
LOOKED_AT, TOLD = 1000, 3  # files of a folder
SAVED_AS = {"xlsx": "csv", "xls": "csv", "ods": "csv", "ndjson": "jsonl"}  # tables of forms that are not read
TABLES = (*EXTENSIONS, *SAVED_AS)


def kind_of(source: Path | str, given: Columns | None = None) -> SourceKind:
    """The kind of a source; `given` are the names of its columns, where they are known. In stores only tars are read.

    Raises:
        BadArguments: there is nothing, or nothing known, or annotation files of several kinds, or pictures with a
            table beside them that has another name than those that are looked for.
    """
    if isinstance(source, str) and is_address(source):
        return "webdataset"
    source = Path(source)
    if not source.exists():
        raise BadArguments(f"{source}: no such file or folder")
    if source.is_dir() and not any(source.iterdir()):
        raise BadArguments(f"{source}: the folder is empty; is it the right one?")
    kind = _kind_of_folder(source) if source.is_dir() else _kind_of_file(source, given or Columns())
    if kind is None:
        raise BadArguments(
            f"{source}: it cannot be told what kind of source this is; say it with --kind, one of: "
            + ", ".join(get_args(SourceKind))
        )
    return kind


def told_of_files(folder: Path) -> str:
    """What a folder has that a kind reads when the file is named, for the end of a message; "" if nothing."""
    files = [
        path for path in sorted(folder.iterdir()) if path.suffix[1:].lower() in EXTENSIONS and path.is_file()
    ]
    found = [f"{file.name} (kind {kind})" for file in files if (kind := _kind_if_told(file))]
    return f"; it has {', '.join(found[:TOLD])}: name the file as the source, with its kind" if found else ""


def _kind_if_told(file: Path) -> SourceKind | None:
    try:
        return None if file.name == TRUTH else _kind_of_file(file, Columns())
    except BlipError:
        return None


def _kind_of_file(file: Path, given: Columns) -> SourceKind | None:
    extension = file.suffix[1:].lower()
    if extension == "tar":
        return "webdataset"
    if extension == "txt":
        return "msvd" if file.name == "AllVideoDescriptions.txt" else None
    if extension == "json" and (kind := _kind_by_keys(file)):
        return kind
    if is_url_list(file):
        return "urls"
    if extension in SAVED_AS:
        raise BadArguments(f"{file}: a .{extension} is not read; save it as {_as_read(file)}, and name that")
    return _kind_of_table(file, given) if extension in EXTENSIONS else None


def _kind_of_table(file: Path, given: Columns) -> SourceKind | None:
    try:
        names = column_names(file)
    except BlipError as error:
        raise BadArguments(f"{error}. Another form of file is read with --kind") from None
    if {"identifier", "sentence"} <= {*names}:
        return "nlvr2"
    if "video_id" in names and file.name.upper().startswith("MSRVTT"):
        return "msrvtt"
    image = given.image or columns.guess(names, columns.IMAGE) or columns.guess(names, columns.ADDRESS)
    if image in names and has_addresses(file, image):
        return "urls"
    known = all(columns.guess(names, usual) for usual in (columns.IMAGE, columns.CAPTION))
    return "table" if known or file.suffix.lower() != ".json" else None


def _kind_by_keys(file: Path) -> SourceKind | None:
    keys = keys_in_head(file)
    if keys >= CLIP_QUESTIONS:
        is_msvd = (file.parent / msvd.MAPPING).is_file() or "msvd" in str(file).lower()
        return "msvd" if is_msvd else "msrvtt"
    if keys >= STATEMENTS:
        return "nlvr2"
    return next((kind for key, kind in KEYS.items() if key in keys), None)


def _kind_of_folder(folder: Path) -> SourceKind | None:
    if pairs.is_dataset(folder):
        return "pairs"
    for kind, names in FILES:
        if any((folder / name).is_file() for name in names):
            return kind
    found: dict[SourceKind, str] = {
        kind: file.name for file in _annotations(folder) if (kind := _kind_by_keys(file))
    }
    if len(found) > 1:
        files = ", ".join(f"{file} ({kind})" for kind, file in sorted(found.items()))
        raise BadArguments(
            f"{folder}: it has files of several kinds: {files}; name one of them as the source"
        )
    if found:
        return next(iter(found))
    return _kind_by_contents(folder)


def _annotations(folder: Path) -> Iterator[Path]:
    for place in (folder, folder / "annotations"):
        yield from sorted(place.glob("*.json"))


def _kind_by_contents(folder: Path) -> SourceKind | None:
    """By what lies in it: tars, tables of the Hub, or pictures; of a large folder the first files tell."""
    if any(folder.glob("*.tar")) or any(folder.glob("*/*.tar")):
        return "webdataset"
    files = list(islice(files_below(folder), LOOKED_AT))
    tables = [file for file in files if file.suffix == ".parquet"]
    if tables:
        return "urls" if is_url_list(tables[0]) else "hf"
    if any(extension_in(file.name) in IMAGE_EXTENSIONS for file in files):
        _see_that_no_table_is_lost(folder)
        return "imagefolder" if _says_more_by_folders(folder, files) else "folder"
    lists = (file for file in sorted(folder.iterdir()) if file.suffix[1:].lower() in LISTS)
    return "urls" if any(map(is_url_list, lists)) else None


def _see_that_no_table_is_lost(folder: Path) -> None:
    """Captions are not made up of names where a table beside the pictures may have them."""
    tables = [file.name for file in sorted(folder.iterdir()) if file.suffix[1:].lower() in TABLES]
    if tables:
        more = f" and {len(tables) - 1} more" if len(tables) > 1 else ""
        read = _as_read(folder / tables[0])
        way = "name it" if read.name == tables[0] else f"save it as {read.name}, and name that"
        raise BadArguments(
            f"{folder}: found {tables[0]}{more} beside the pictures; {way} as the source ({read}), or say "
            "--kind folder where the names of the pictures are their captions"
        )


def _as_read(table: Path) -> Path:
    """What to call a table in a form that is read."""
    form = table.suffix[1:].lower()
    return table.with_suffix(f".{SAVED_AS[form]}") if form in SAVED_AS else table


def _says_more_by_folders(folder: Path, files: list[Path]) -> bool:
    """Whether pictures have no words of their own, but lie in folders that have a name."""
    beside = Beside()
    texts = {file.with_suffix("") for file in files if beside.is_sidecar(file)}
    pictures = [file for file in files if extension_in(file.name) in IMAGE_EXTENSIONS]
    told = sum(file.with_suffix("") in texts or " " in in_words(file.stem) for file in pictures)
    return all(file.parent != folder for file in pictures) and told < len(pictures) / 2
