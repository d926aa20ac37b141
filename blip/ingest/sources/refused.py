"""What a source could not make a sample of, and keys made of file names."""

import re
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import PurePosixPath

from blip.data.sample import IMAGE_EXTENSIONS, VIDEO_EXTENSIONS

MISSING, NOT_LISTED, DUPLICATE, UNSUPPORTED = "missing_file", "not_listed", "duplicate", "unsupported"
NO_IMAGE, NO_CAPTION, UNREADABLE = "no_image", "no_caption", "unreadable"
UNFETCHED = "not_fetched"  # a file of a store, with all that is in it
LINKED_AWAY = "linked_away"  # a link to a tar or folder elsewhere, or to none, with all that is in it

MEDIA = IMAGE_EXTENSIONS | VIDEO_EXTENSIONS
OTHER_MEDIA = frozenset(  # pictures and clips that are not read
    (
        "heic", "heif", "avif", "jxl", "jp2", "j2k", "jpx", "svg", "psd", "ico", "tga",
        "dng", "cr2", "cr3", "nef", "arw", "orf", "raf", "rw2", "dcm", "dicom", "czi", "nd2", "svs", "ndpi",
        "m4v", "wmv", "flv", "mpg", "mpeg", "3gp", "mts", "m2ts", "mxf", "ogv",
    )
)  # fmt: skip
_JPEG = frozenset({"jfif", "jpe", "pjpeg"})

_FOREIGN = re.compile(r"[^A-Za-z0-9_-]+")


@dataclass(frozen=True)
class Refused:
    """A file or row left out: a reason code, what was found, and the bytes if there are any."""

    key: str
    reason: str
    detail: str
    payload: bytes | None = None


def key_of(name: str) -> str:
    """A sample key for a file name: without its extension, other characters than `A-Za-z0-9_-` replaced.

    Where something was replaced a short hash of the name follows: `a b.png` and `a_b.png` stay two keys.
    """
    path = PurePosixPath(name)
    known = extension_in(name) in MEDIA
    stem = str(path.with_suffix("")) if known else name
    plain = _FOREIGN.sub("_", stem)
    if plain == stem:
        return plain
    digest = blake2b(stem.encode(errors="surrogatepass"), digest_size=4).hexdigest()
    return f"{plain[:100]}-{digest}"


def renamed(name: str) -> str | None:
    """The name of a file where something of it was replaced in its key, half a surrogate pair as its escape."""
    stem = str(PurePosixPath(name).with_suffix("")) if extension_in(name) in MEDIA else name
    return name.encode("utf-8", "backslashreplace").decode() if _FOREIGN.search(stem) else None


def extension_in(name: str) -> str:
    """What a file is, by its name: its extension in small letters, that of a JPEG as `jpg` or `jpeg`."""
    extension = PurePosixPath(name).suffix[1:].lower()
    return "jpg" if extension in _JPEG else extension
