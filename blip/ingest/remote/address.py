"""Which addresses are read: stores that hand out files and do nothing else, named without anything before them.

check(Source(source="s3://bucket/laion", kind="webdataset", ...))     # raises BadArguments if it is none of these

Of fsspec's protocols those are missing that chain (`simplecache::`, `zip::`), read this disk (`file`, `local`), or do
what a file says (`reference`). What a store wants to know of us stands in its own environment: AWS_PROFILE or
AWS_ACCESS_KEY_ID, GOOGLE_APPLICATION_CREDENTIALS, AZURE_STORAGE_CONNECTION_STRING, an SSH agent, or FSSPEC_S3_ANON=true
and its like. Where a password or a signature stands in an address, it is used and not written down.
"""

import re
from urllib.parse import unquote, urlsplit

from blip.config import Source
from blip.errors import BadArguments, BlipError

CLIENTS = {  # of which package each protocol is; fsspec has http itself
    "s3": "s3fs",
    "gs": "gcsfs",
    "gcs": "gcsfs",
    "az": "adlfs",
    "abfs": "adlfs",
    "abfss": "adlfs",
    "sftp": "sshfs",
    "ssh": "sshfs",
    "http": "",
    "https": "",
}
SIGNED = ("http", "https")  # where a query may be a signature
WITH_PASSWORD = ("sftp", "ssh", *SIGNED)
_UNPRINTABLE = re.compile(r"[\x00-\x20\x7f]")


def protocol_of(source: Source) -> str:
    """The protocol of an address, in small letters."""
    return source.source.partition("://")[0].lower()


def asked(source: Source) -> str:
    """The address as a client takes it; a `#` in it begins a fragment by http, and is part of a name elsewhere."""
    protocol, place = protocol_of(source), source.address.partition("://")[2]
    return f"{protocol}://{place.partition('#')[0] if protocol in SIGNED else place}"


def check(source: Source) -> None:
    """See that a source is one that is fetched.

    Raises:
        BadArguments: it is of another protocol or kind, leads out of its folder, or has secrets where none belong.
    """
    protocol, shown = protocol_of(source), source.source
    if protocol not in CLIENTS:
        why = "a path is written as it is" if protocol in ("file", "local") else "nothing else is opened"
        raise BadArguments(f"source {shown}: read are {', '.join(CLIENTS)}; {why}")
    if source.kind != "webdataset":
        raise BadArguments(
            f"source {shown}: of a store only tars are read (--kind webdataset); copy what is of the kind "
            f"{source.kind} to this disk"
        )
    parts = urlsplit(asked(source), allow_fragments=False)
    if not parts.netloc or _UNPRINTABLE.search(source.address):
        raise BadArguments(f"source {shown}: it names no host or bucket, or has blanks in it")
    if ".." in unquote(parts.path).split("/"):
        raise BadArguments(f"source {shown}: it has .. in it; name the folder itself")
    user = parts.netloc.rpartition("@")[0]
    if (parts.query and protocol not in SIGNED) or (
        protocol not in WITH_PASSWORD and (":" in user or (user and protocol in ("s3", "gs", "gcs")))
    ):
        raise BadArguments(
            f"source {protocol}://...: its address has a key, a password or a query; leave it out, the store's own "
            "environment has credentials"
        )
    if parts.query and not is_one(source):
        raise BadArguments(f"source {shown}: a query goes with a single .tar, not with a folder")


def is_one(source: Source) -> bool:
    """Whether an address is that of one tar, not of a folder."""
    return source.source.endswith(".tar")


def missing_client(source: Source) -> BlipError:
    """What to say where the package is not there that speaks with a store."""
    package = CLIENTS[protocol_of(source)]
    return BlipError(
        f"source {source.source}: the package {package} is not installed, which reads {protocol_of(source)}://; it is "
        "in the extra `remote`: .venv/bin/uv pip install -c constraints.txt -e '.[remote]'"
    )
