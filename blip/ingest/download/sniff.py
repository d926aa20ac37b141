"""What kind of picture bytes are, by how they begin: servers say many things about their files.

extension_of(b"\\xff\\xd8\\xff\\xe0...")      # "jpg"; None if it begins like no picture
"""

import re

SURE = 16  # bytes after which a file begins like a picture or does not
_KINDS = {
    "jpg": rb"\xff\xd8\xff",
    "png": rb"\x89PNG\r\n\x1a\n",
    "webp": rb"RIFF....WEBP",
    "gif": rb"GIF8[79]a",
    "tif": rb"II\*\x00|MM\x00\*",
    "bmp": rb"BM",
}
_KIND = re.compile(
    b"|".join(b"(?P<%b>%b)" % (name.encode(), begin) for name, begin in _KINDS.items()), re.DOTALL
)


def extension_of(data: bytes | bytearray) -> str | None:
    """The extension for a picture's bytes, or None."""
    found = _KIND.match(data)
    return found.lastgroup if found else None
