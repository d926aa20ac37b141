"""A process that renders batches for a `blip.data.workers.Workers`, which starts it; it ends when its input does.

python -m blip.data.worker FD SLOTS BATCH AUGMENTATION

Input: for every batch a line of JSON (`slot`, `seeds`, `sizes`), then the pictures' files, one after the other. The
pixels go to a slot of the memory behind FD; then a line says null, or which picture failed. It needs no torch.
"""

import json
import mmap
import sys
from typing import BinaryIO

import cv2
import numpy as np

from blip.data.augment import Augmentation
from blip.data.render import Images, render


def slots(descriptor: int, shape: tuple[int, ...]) -> Images:
    """The memory behind a file descriptor as `uint8 [slots, B, S, S, 3]`."""
    return np.frombuffer(mmap.mmap(descriptor, int(np.prod(shape))), np.uint8).reshape(shape)


def work(batches: Images, augmentation: Augmentation, requests: BinaryIO, answers: BinaryIO) -> None:
    """Answer requests until there are no more."""
    while line := requests.readline():
        request = json.loads(line)
        pictures = [requests.read(size) for size in request["sizes"]]
        failure = render(pictures, augmentation, request["seeds"], batches[request["slot"]])
        answers.write(json.dumps(failure).encode() + b"\n")
        answers.flush()


def main() -> None:
    """Read the arguments and work."""
    descriptor, count, batch = (int(argument) for argument in sys.argv[1:4])
    augmentation = Augmentation(**json.loads(sys.argv[4]))
    cv2.setNumThreads(1)
    shape = (count, batch, augmentation.size, augmentation.size, 3)
    try:
        work(slots(descriptor, shape), augmentation, sys.stdin.buffer, sys.stdout.buffer)
    except BrokenPipeError:  # nobody is there to take the answer
        sys.stdout = None  # type: ignore[assignment] - nor what Python would flush as it ends


if __name__ == "__main__":
    main()
