"""Texts from elsewhere, spelled so that they can be shown.

plain("a\\x1b[2J.jpg")     # the escape as four characters, which a terminal does not obey
print_anything()           # as a question mark, where the terminal lacks the character
"""

import codecs
import re
import sys
from io import TextIOWrapper

# All but newline and tab, and halves of pairs
_CONTROLS = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\ud800-\udfff]")


def plain(text: str) -> str:
    """A text whose control characters are spelled: names come from archives, and a terminal obeys what it is sent.

    So are the surrogates that stand for the bytes of a file name that is not UTF-8: they cannot be written.
    """
    return _CONTROLS.sub(_spelled, text)


def _spelled(found: re.Match[str]) -> str:
    code = ord(found[0])
    return f"\\x{code:02x}" if code < 256 else f"\\u{code:04x}"


def print_anything() -> None:
    """Have standard output take characters that its encoding lacks, as the bars of a table may be: as question marks.

    Standard error spells them already.
    """
    if isinstance(sys.stdout, TextIOWrapper) and codecs.lookup(sys.stdout.encoding).name != "utf-8":
        sys.stdout.reconfigure(errors="replace")
