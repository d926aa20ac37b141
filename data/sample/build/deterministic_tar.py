"""Tar files that come out byte for byte the same from the same members."""

import io
import tarfile
from collections.abc import Mapping
from pathlib import Path


def write_tar(path: Path, members: Mapping[str, bytes]) -> int:
    """Write ``members`` (name to content) to ``path`` by name, without times or owners; returns its bytes."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(path.name + ".partial")
    with tarfile.open(partial, "w", format=tarfile.USTAR_FORMAT) as archive:
        for name in sorted(members):
            entry = tarfile.TarInfo(name)
            entry.size, entry.mode, entry.mtime = len(members[name]), 0o644, 0
            archive.addfile(entry, io.BytesIO(members[name]))
    partial.replace(path)
    return path.stat().st_size
