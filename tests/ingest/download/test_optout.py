"""What sites ask for."""

import pytest

from blip.ingest.download.optout import opted_out
from blip.ingest.download.robots import rules_of

WORDS = ("noai", "noindex")


@pytest.mark.parametrize(
    ("tags", "found"),
    [
        ([], ""),
        (["noai"], "noai"),
        (["NoAI, nofollow"], "noai"),
        (["nofollow", "all, noindex"], "noindex"),
        (["otherbot: noai"], ""),
        (["otherbot: nofollow, noai"], ""),
        (["blip: noai"], "noai"),
        (["otherbot: noai, blip: noindex"], "noindex"),
        (["unavailable_after: 25 Jun 2030 15:00:00 PST, noai"], "noai"),
        (["max-image-preview:large, noai"], "noai"),
        (["noindex-not, max-snippet:-1, max-video-preview: 0, noai"], "noai"),
        (["noaitools"], ""),
    ],
)
def test_a_tag_concerns_everyone_or_an_agent(tags: list[str], found: str) -> None:
    assert opted_out(tags, "blip", WORDS) == found


def test_a_missing_robots_txt_allows_and_a_broken_server_forbids() -> None:
    assert rules_of(404, "").can_fetch("http://a/x", "blip")
    assert not rules_of(503, "").can_fetch("http://a/x", "blip")
    rules = rules_of(200, "User-agent: blip\nDisallow: /x")
    assert (rules.can_fetch("http://a/x", "blip"), rules.can_fetch("http://a/y", "blip")) == (False, True)
