"""Tensors to and from safetensors files: written one at a time with their digest, read by name and by slice.

written = write_tensors(path, {"weight": tensor})      # Written(bytes=..., sha256=...)
stored = Stored([path, ...])
stored.whole("weight"); stored.slice("lm_head.weight", "exp_avg", start=0, count=128)

The library's own writer wants all tensors in memory of their own at once; this one needs no copy of what lies on the
host and reads a file no second time for its digest.
"""

import hashlib
import json
import os
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from blip.digest import file_sha256

DTYPES = {
    torch.float64: "F64", torch.float32: "F32", torch.float16: "F16", torch.bfloat16: "BF16",
    torch.int64: "I64", torch.int32: "I32", torch.uint8: "U8", torch.bool: "BOOL",
}  # fmt: skip
ALIGNMENT, BLOCK = 8, 1 << 24


@dataclass(frozen=True)
class Written:
    """What a file must be to count as whole."""

    bytes: int
    sha256: str


def write_tensors(path: Path, tensors: Mapping[str, Tensor]) -> Written:
    """Write a safetensors file and have the system put it on disk.

    Raises:
        OSError: the disk is full or not writable.
    """
    digest = hashlib.sha256()
    with path.open("wb") as handle:
        for block in _blocks(tensors):
            digest.update(block)
            handle.write(block)
        handle.flush()
        os.fsync(handle.fileno())
        return Written(handle.tell(), digest.hexdigest())


def damage(path: Path, expected: Written) -> str | None:
    """What is wrong with a file; None if it is what was written.

    Raises:
        OSError: it cannot be read, which does not say that anything is wrong with it.
    """
    try:
        size = path.stat().st_size
        if size != expected.bytes:
            return f"{path.name} has {size} of {expected.bytes} bytes"
        found = file_sha256(path)
    except FileNotFoundError:
        return f"{path.name} is missing"
    return None if found == expected.sha256 else f"{path.name} has another SHA-256 than was written"


class Stored:
    """The tensors of a checkpoint's files, wherever each lies.

    ``NAME`` is a whole tensor, ``NAME|KEY`` one value of a parameter's, and ``NAME|KEY|START`` a slice of values of
    which there are as many as the parameter has elements.
    """

    def __init__(self, paths: Iterable[Path]) -> None:
        from safetensors import safe_open

        self._whole: dict[str, Any] = {}
        self._slices: dict[tuple[str, str], list[tuple[int, Any, str]]] = defaultdict(list)
        self._keys: dict[str, set[str]] = defaultdict(set)
        for path in paths:
            file = safe_open(path, "pt")
            for entry in file.keys():  # noqa: SIM118 - no mapping
                name, *rest = entry.split("|")
                if len(rest) == 2:
                    self._slices[name, rest[0]].append((int(rest[1]), file, entry))
                else:
                    self._whole[entry] = file
                self._keys[name].update(rest[:1])

    def keys_of(self, name: str) -> list[str]:
        """Which values there are of a parameter."""
        return sorted(self._keys.get(name, ()))

    def has(self, name: str) -> bool:
        """Whether there is a whole tensor of this name."""
        return name in self._whole

    def is_cut(self, name: str, key: str) -> bool:
        """Whether a value of a parameter is kept in slices."""
        return (name, key) in self._slices

    def whole(self, name: str) -> Tensor:
        """A whole tensor; raises KeyError where there is none."""
        return self._whole[name].get_tensor(name)

    def slice(self, name: str, key: str, start: int, count: int) -> Tensor:
        """Elements `start` to `start + count` of a value, 1-D; raises KeyError where some are missing."""
        found = []
        for begin, file, entry in self._slices[name, key]:
            piece = file.get_slice(entry)
            first, last = max(start - begin, 0), min(start + count - begin, piece.get_shape()[0])
            if first < last:
                found.append((begin + first, piece[first:last]))
        parts = [part for _, part in sorted(found, key=lambda one: one[0])]
        if sum(map(len, parts)) != count:
            raise KeyError(f"{name}|{key}: {sum(map(len, parts))} of {count} elements from {start} on")
        return torch.cat(parts)


def _blocks(tensors: Mapping[str, Tensor]) -> Iterator[bytes | memoryview]:
    header: dict[str, Any] = {}
    end = 0
    for name, tensor in tensors.items():
        begin, end = end, end + tensor.numel() * tensor.element_size()
        shape = list(tensor.shape)
        header[name] = {"dtype": DTYPES[tensor.dtype], "shape": shape, "data_offsets": [begin, end]}
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % ALIGNMENT)
    yield len(text).to_bytes(8, "little") + text
    for tensor in tensors.values():
        array: Any = tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy()
        data = memoryview(array)
        for begin in range(0, len(data), BLOCK):
            yield data[begin : begin + BLOCK]
