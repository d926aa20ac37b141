"""Addresses of servers with a user and a password in them: MLFLOW_TRACKING_URI, PREFECT_API_URL, sources of datasets.

print(f"{shown(uri)} does not answer")      # http://***@host:5000 does not answer
urlopen(asking(uri))                        # urllib takes user and password for the host's name
plain("https://me:pw@host/a.tar?sig=1")     # https://host/a.tar, which may be written down and read again
"""

import base64
import re
from urllib.parse import unquote, urlsplit
from urllib.request import Request

_QUERY = re.compile(r"(://[^\s?'\"<>]*)\?[^\s'\"<>]*")
_NAMED = re.compile(r"://(?:[^\s/]*|[^\s/:@]*:\S*)@")  # up to the last @: a password may have any character


def shown(text: str) -> str:
    """An address, or any text that quotes some, as it may be printed: without users and passwords."""
    return _NAMED.sub("://***@", text)


def plain(address: str) -> str:
    """An address without what of it may be secret: password, query, fragment, and for http the user.

    What is no address with `://` stays as it is.
    """
    scheme, mark, rest = address.partition("://")
    if not mark:
        return address
    rest = rest.partition("?")[0]
    if scheme.lower().startswith("http"):
        rest = rest.partition("#")[0]
    place, slash, path = rest.partition("/")
    user, at, host = place.rpartition("@")
    if not at and ":" in place and not place.rpartition(":")[2].isdecimal() and "@" in path:
        return shown(f"{scheme}://{rest}")  # a slash in the password
    if at and (":" in user or scheme.lower().startswith("http")):
        name = "" if scheme.lower().startswith("http") else user.partition(":")[0]
        place = f"{name}@{host}" if name else host
    return f"{scheme}://{place}{slash}{path}"


def scrubbed(text: str) -> str:
    """A text that quotes addresses, as an error does, without users, passwords and queries, which may be signatures."""
    return _QUERY.sub(r"\1", shown(text))


def asking(url: str) -> Request:
    """A GET of a URL, its user and password where HTTP wants them.

    Raises:
        ValueError: it is no URL.
    """
    user, at, host = urlsplit(url).netloc.rpartition("@")
    if not at:
        return Request(url)
    encoded = base64.b64encode(unquote(user).encode()).decode()
    return Request(url.replace(f"{user}@{host}", host, 1), headers={"Authorization": f"Basic {encoded}"})
