"""What sites ask of those who collect data: the X-Robots-Tag of a response.

opted_out(headers.getall("X-Robots-Tag"), agent="blip", words={"noai"})      # "noai" or ""
"""

from __future__ import annotations

from collections.abc import Iterable

# What stands before a colon without being an agent's name.
VALUED = {"unavailable_after", "max-snippet", "max-image-preview", "max-video-preview"}


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
            if colon and name.strip() not in VALUED:
                concerned, directive = name.strip() in (agent.lower(), "*"), rest.strip()
            if concerned and directive in wanted:
                return directive
    return ""
