"""What every source's samples must hold to: a key that is new, texts that are whole and not too long.

    for item in screened(items, max_chars=10_000): ...

A text with a fault is left out and counted, its sample goes on with the others; a sample without any text left
is refused with the fault of the first. A text is `broken_text` where bytes were no UTF-8 (readers put U+FFFD in
their place) or half a surrogate pair stands, `control_characters` where it has others than white space.
"""

import re
from collections.abc import Iterable, Iterator
from dataclasses import replace

from blip.data.quarantine import BROKEN, CONTROL, EMPTY, TOO_LONG
from blip.data.sample import Question, Sample
from blip.ingest.sources.refused import DUPLICATE, NO_CAPTION, Refused
from blip.ingest.sources.seen import Seen
from blip.ingest.sources.urls import Address

MAX_CAPTION_CHARS = 10_000
SHOWN = 60

_SUSPICIOUS = re.compile("[\x00-\x08\x0e-\x1b\x7f-\x84\x86-\x9f\ud800-\udfff\ufffd]")

Fault = tuple[str, str]  # a reason code and what was found


def screened(
    items: Iterable[Sample | Refused | Address], max_chars: int = MAX_CAPTION_CHARS
) -> Iterator[Sample | Refused | Address]:
    """The items with sound keys and texts; what is taken away comes as `Refused`.

    The keys of addresses are row numbers, which need no memory to be told apart.
    """
    seen = Seen()
    for item in items:
        if isinstance(item, Refused):
            yield item
        elif isinstance(item, Address):
            yield from _sound_address(item, max_chars)
        elif not seen.add(item.key):
            detail = (
                f"another sample has the key {item.key}: names of files have to differ without their endings"
            )
            yield Refused(item.key, DUPLICATE, detail, item.media)
        else:
            yield from _sound(item, max_chars)


def fault_of(text: str, max_chars: int) -> Fault | None:
    """Why a text cannot be used, or None."""
    if not text:
        return EMPTY, "a text without words"
    if len(text) > max_chars:
        return TOO_LONG, f"{len(text):,} characters, more than ingest.max_caption_chars = {max_chars:,}: " + (
            repr(text[:SHOWN])
        )
    found = _SUSPICIOUS.search(text)
    if found is None:
        return None
    start = max(0, found.start() - SHOWN // 2)
    around = ascii(text[start : start + SHOWN])
    if found[0] == "\ufffd" or found[0] >= "\ud800":
        return BROKEN, f"the text is not valid UTF-8 at character {found.start()}: {around}"
    return CONTROL, f"the text has the control character U+{ord(found[0]):04X}: {around}"


def _sound(sample: Sample, max_chars: int) -> Iterator[Sample | Refused]:
    faults = [(c.text, fault) for c in sample.captions if (fault := fault_of(c.text, max_chars))]
    faults += [(q.text, fault) for q in sample.questions if (fault := _fault_in(q, max_chars))]
    if sample.captions or sample.questions:
        if not faults:
            yield sample
            return
        captions = tuple(c for c in sample.captions if not fault_of(c.text, max_chars))
        questions = tuple(q for q in sample.questions if not _fault_in(q, max_chars))
        if captions or questions:
            for text, (reason, detail) in faults:
                yield Refused(sample.key, reason, detail, text.encode(errors="replace"))
            yield replace(sample, captions=captions, questions=questions)
            return
    reason, detail = faults[0][1] if faults else (NO_CAPTION, "nothing is said of it")
    yield Refused(sample.key, NO_CAPTION if reason == EMPTY else reason, detail, sample.media)


def _sound_address(row: Address, max_chars: int) -> Iterator[Refused | Address]:
    faults = {text: fault for text in row.captions if (fault := fault_of(text, max_chars))}
    sound = [text for text in row.captions if text not in faults]
    refused = [Refused(row.key, *fault) for fault in faults.values()]
    yield from refused if sound else refused[:1]
    if sound:
        yield replace(row, caption="\n".join(sound)) if refused else row


def _fault_in(question: Question, max_chars: int) -> Fault | None:
    texts = (question.text, *question.answers)
    return next((fault for text in texts if (fault := fault_of(text, max_chars))), None)
