"""Addresses of servers with a user and a password in them: MLFLOW_TRACKING_URI, PREFECT_API_URL.

print(f"{shown(uri)} does not answer")      # http://***@host:5000 does not answer
urlopen(asking(uri))                        # urllib takes user and password for the host's name
"""

import base64
import re
from urllib.parse import unquote, urlsplit
from urllib.request import Request

_NAMED = re.compile(r"://(?:[^\s/]*|[^\s/:@]*:\S*)@")  # up to the last @: a password may have any character


def shown(text: str) -> str:
    """An address, or any text that quotes some, as it may be printed: without users and passwords."""
    return _NAMED.sub("://***@", text)


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
