"""Texts from elsewhere, spelled so that they can be shown.

plain("a\\x1b[2J.jpg")     # the escape as four characters, which a terminal does not obey
"""

import re

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
