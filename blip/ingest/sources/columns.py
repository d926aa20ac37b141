"""Which columns of a table hold the pictures and the texts, by their names.

image, caption = pick(["filepath", "title"], None, Path("pairs.csv"))     # "filepath", "title"
"""

from collections.abc import Sequence
from pathlib import Path

from blip.config import Columns
from blip.errors import BlipError
from blip.ingest.sources.notes import tell

IMAGE = (
    "image", "image_path", "image_file", "image_name", "file_name", "filename", "filepath", "file_path", "path",
    "img", "img_path", "picture", "photo", "jpg", "png", "webp", "image_bytes", "bytes",
    "video", "video_path", "clip", "mp4", "clip_name",
)  # fmt: skip
CAPTION = (
    "caption", "captions", "text", "texts", "title", "alt_text", "alt", "sentence", "sentences", "description",
    "raw", "txt", "comment", "alttext", "top_caption",
)  # fmt: skip
ADDRESS = ("url", "image_url", "img_url", "image_link", "link", "href", "src")


def pick(names: Sequence[str], given: Columns | None, path: Path) -> tuple[str, str]:
    """The columns of the picture and of the caption: those `given`, else the first usual name, in any case.

    Raises:
        BlipError: a column given is not there, or none has a usual name (lists the columns), or there is no column.
    """
    given = given or Columns()
    image = pick_one(names, given.image, IMAGE, "image", path)
    return image, pick_one(names, given.caption, CAPTION, "caption", path)


def pick_address(names: Sequence[str], given: Columns | None, path: Path) -> tuple[str, str]:
    """The columns of the URL, which `given.image` may name, and of the caption, as `pick`."""
    given = given or Columns()
    address = pick_one(names, given.image, ADDRESS, "image", path, "URL")
    return address, pick_one(names, given.caption, CAPTION, "caption", path)


def tell_of_others(names: Sequence[str], taken: str, given: Columns | None, path: Path) -> None:
    """Say which column the captions are, where it was found by its name and another one has such a name, too."""
    others = [name for name in names if name != taken and name.strip().lower() in CAPTION]
    if others and not (given and given.caption):
        tell(
            f"the captions of {path} are its column {taken}; also there: {', '.join(others)} (--column "
            f"caption={others[0]}; `columns: {{caption: {others[0]}}}` in params.yaml)"
        )


def guess(names: Sequence[str], usual: Sequence[str]) -> str | None:
    """The first of the `usual` names that there is, as it is written."""
    written = {name.strip().lower(): name for name in reversed(names)}
    return next((written[name] for name in usual if name in written), None)


def pick_one(
    names: Sequence[str], given: str | None, usual: Sequence[str], role: str, path: Path, what: str = ""
) -> str:
    """The column of a role: the one given, else the first usual name; `what` is in it, if not what its role says.

    Raises:
        BlipError: as `pick`.
    """
    found = given if given in names else None if given else guess(names, usual)
    if found:
        return found
    if not names:
        raise BlipError(f"{path}: it is empty, or has no row that can be read")
    missing = f"no column has a usual name of the {what or role} ({', '.join(usual[:3])}, ...)"
    wanted = f"no column {given!r}" if given else missing
    address = guess(names, ADDRESS) if usual is IMAGE else None
    also = f"; {address} has addresses, which --kind urls reads" if address else ""
    way = f"columns: {{{role}: NAME}} in params.yaml, --column {role}=NAME with blip ingest"
    if role not in Columns.model_fields:
        way = f"call it {usual[0]}"
    if not given and usual in (IMAGE, ADDRESS) and path.suffix.lower() in (".csv", ".tsv"):
        way += f"; or, if that is no line of names, write one above it, as {usual[0]},caption"
    raise BlipError(f"{path}: {wanted}; it has: {', '.join(names)}{also}. Name one: {way}")
