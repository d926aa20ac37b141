"""The SHA-256 of a file, by which it is known again.

file_sha256(Path("model.safetensors"))     # 64 hexadecimal digits
"""

from hashlib import file_digest
from pathlib import Path


def file_sha256(path: Path) -> str:
    """Of a file of any size: it is read a piece at a time."""
    with path.open("rb") as handle:
        return file_digest(handle, "sha256").hexdigest()
