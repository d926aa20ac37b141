"""What sites ask of those who collect data: the X-Robots-Tag of a response, and robots.txt if that is wanted.

opted_out(headers.getall("X-Robots-Tag"), agent="blip", words={"noai"})      # "noai" or ""
"""

from __future__ import annotations

from collections.abc import Iterable

from protego import Protego

NO_RULES = Protego.parse("")


def opted_out(tags: Iterable[str], agent: str, words: Iterable[str]) -> str:
    """The directive by which a response opts out, or the empty string.

    A tag is `noai, noindex` for everyone or `somebot: noai` for one user agent; later parts of the same header
    belong to the agent that was named last.
    """
    wanted = {word.lower() for word in words}
    for tag in tags:
        concerned = True
        for part in tag.lower().split(","):
            name, colon, rest = part.partition(":")
            directive = part.strip()
            if colon and name.strip() != "unavailable_after":
                concerned, directive = name.strip() in (agent.lower(), "*"), rest.strip()
            if concerned and directive in wanted:
                return directive
    return ""


def read_robots(status: int, body: bytes) -> Protego:
    """The rules of a robots.txt: without one everything is allowed, with a server error nothing (RFC 9309)."""
    if status >= 500:
        return Protego.parse("User-agent: *\nDisallow: /")
    return Protego.parse(body.decode("utf-8", "replace")) if status < 400 else NO_RULES
