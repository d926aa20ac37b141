"""Ports for what a test starts later: none that the system may give to somebody else's connection meanwhile."""

import random
from pathlib import Path

from blip.ports import is_free

RANGE = range(10_000, 60_000)
EPHEMERAL = Path("/proc/sys/net/ipv4/ip_local_port_range")


def free_port() -> int:
    """A port that nobody listens on, drawn by chance, so that tests that run side by side have different ones."""
    first, last = map(int, EPHEMERAL.read_text().split()) if EPHEMERAL.exists() else (49_152, 65_535)
    ports = [port for port in RANGE if not first <= port <= last] or list(RANGE)
    return next(port for port in iter(lambda: random.SystemRandom().choice(ports), 0) if is_free(port))
