"""What picture, film and sound bots answer with: addresses on this server, and the files there.

A file follows from its address alone, so nothing has to be kept.
"""

import re
from collections.abc import Mapping
from typing import Final, Literal

import msgspec

from poeflow.digest import Json, sha256_of
from poeflow.simulator.pictures import png
from poeflow.simulator.recordings import mp4, wav

Kind = Literal["image", "video", "audio"]
MAX_SIDE: Final = 4_096
_USUAL_SIDE: Final = 1_024
_FILM_SIZE: Final = (320, 180)
_PATH: Final = re.compile(r"/base/(image|video|audio)/([0-9a-f]{64})")
_RATIO: Final = re.compile(r"(\d{1,4})[:x](\d{1,4})")
_ALT_LENGTH: Final = 200


class Media(msgspec.Struct, frozen=True, kw_only=True):
    media_type: str
    data: bytes


def address(kind: Kind, seed: str, origin: str, custom: Mapping[str, Json]) -> str:
    """Return the address of what `seed` stands for; a picture's says its size."""
    url = f"{origin}/base/{kind}/{sha256_of(f'{kind}:{seed}'.encode())}"
    if kind != "image":
        return url
    width, height = _size(custom)
    return f"{url}?w={width}&h={height}"


def told(kind: Kind, url: str, prompt: str) -> str:
    """Return the content of the answer: a bare address, for pictures behind a Markdown image."""
    if kind != "image":
        return url
    alt = " ".join(prompt.split())[:_ALT_LENGTH]
    return f"![{alt}.png]({url})\n\n{url}"


def made(path: str, query: Mapping[str, str]) -> Media | None:
    """Return the file at an address of this server, None where there cannot be one."""
    match = _PATH.fullmatch(path)
    if match is None:
        return None
    colours = bytes.fromhex(match[2])
    match match[1]:
        case "image":
            width, height = (_side(query.get(name)) for name in ("w", "h"))
            return Media(media_type="image/png", data=png(colours, width, height))
        case "video":
            data = mp4(png(colours, *_FILM_SIZE), *_FILM_SIZE, 2)
            return Media(media_type="video/mp4", data=data)
        case _:
            return Media(media_type="audio/wav", data=wav(220 + colours[0] * 2, 0.5))


def _size(custom: Mapping[str, Json]) -> tuple[int, int]:
    """Return width and height by the bot's parameters, whatever it calls them."""
    for name in ("size", "aspect_ratio", "aspect"):
        match = _RATIO.fullmatch(str(custom.get(name, "")))
        if match is None:
            continue
        width, height = max(int(match[1]), 1), max(int(match[2]), 1)
        if name == "size":
            return min(width, MAX_SIDE), min(height, MAX_SIDE)
        longer = max(width, height)
        return width * _USUAL_SIDE // longer, height * _USUAL_SIDE // longer
    return _USUAL_SIDE, _USUAL_SIDE


def _side(text: str | None) -> int:
    is_number = text is not None and text.isdecimal() and len(text) < 6
    return min(max(int(text), 1), MAX_SIDE) if is_number and text else _USUAL_SIDE
