"""The marks and colours of runs, plans and histories, in Unicode or ASCII as a stream can show.

Styles are the words rich and click both know: a colour, `dim`, `bold`, or several of them.
"""

import re
from dataclasses import dataclass, replace
from typing import Final, Literal, TextIO

from poeflow.facts import Standing
from poeflow.redact import visible

Work = Literal["waiting", "running", "done", "tolerated", "failed", "skipped", "stopped", "current"]

_PAIRS: Final = re.compile("[\ud800-\udbff][\udc00-\udfff]")


@dataclass(frozen=True, slots=True, kw_only=True)
class Marks:
    """The characters of one look, each one cell wide, and the encoding they are shown in."""

    done: str
    failed: str
    waiting: str
    spinner: str
    bar: str
    groove: str
    wall: str
    more: str
    encoding: str = "utf-8"

    def of(self, state: Work | Standing) -> tuple[str, str]:
        """Return the mark of what stands so, and its style."""
        mark, style = _LOOKS[state]
        return {"v": self.done, "x": self.failed, ".": self.waiting}.get(mark, mark), style

    def spin(self, now: float) -> str:
        """Return the mark of what works at the time `now`."""
        return self.spinner[int(now * 10) % len(self.spinner)]

    def shown(self, text: str) -> str:
        """Return `text` harmless, on one line, in characters the stream can show."""
        safe = visible(paired(text)).replace("\n", " ").replace("\t", " ")
        if self.encoding in ("utf-8", "utf8") or safe.isascii():
            return safe
        return safe.encode(self.encoding, "backslashreplace").decode(self.encoding)


UNICODE: Final = Marks(
    done="✓",
    failed="✗",
    waiting="·",
    spinner="⠋⠙⠹⠸⠼⠴⠦⠧⠇⠏",
    bar="━",
    groove="─",
    wall="│",
    more="…",
)
ASCII: Final = Marks(
    done="*",
    failed="x",
    waiting=".",
    spinner="|/-\\",
    bar="#",
    groove="-",
    wall="|",
    more="~",
    encoding="ascii",
)
_LOOKS: Final[dict[Work | Standing, tuple[str, str]]] = {
    "waiting": (".", "dim"),
    "running": (".", "cyan"),
    "done": ("v", "green"),
    "tolerated": ("!", "yellow"),
    "failed": ("x", "red"),
    "skipped": ("-", "dim"),
    "stopped": ("!", "yellow"),
    "current": ("v", "dim"),
    "fresh": ("v", "dim"),
    "new": ("+", "green"),
    "stale": ("~", "yellow"),
    "missing": ("!", "yellow"),
    "edited": ("!", "magenta"),
    "needed": ("~", "cyan"),
    "orphaned": ("!", "magenta"),
    "unknown": ("?", "dim"),
}


def marks_for(stream: TextIO) -> Marks:
    """Return the marks `stream` can show, by its encoding: ASCII where one is not in it."""
    encoding = (getattr(stream, "encoding", None) or "utf-8").lower()
    unicode = f"{UNICODE.done}{UNICODE.failed}{UNICODE.spinner}{UNICODE.bar}{UNICODE.more}"
    try:
        unicode.encode(encoding)
    except UnicodeEncodeError:
        return replace(ASCII, encoding=encoding)
    return UNICODE


def paired(text: str) -> str:
    """Return `text` with the halves of surrogate pairs joined, as when a stream was cut in one."""
    return _PAIRS.sub(lambda pair: pair[0].encode("utf-16", "surrogatepass").decode("utf-16"), text)
