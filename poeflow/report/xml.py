"""Text in XML 1.0: always well-formed, whatever it holds."""

import re
from typing import Final

from poeflow.redact import visible
from poeflow.report.terminal.marks import paired

_ILLEGAL: Final = re.compile("[^\t\n\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
_MARKUP: Final = str.maketrans({"&": "&amp;", "<": "&lt;", ">": "&gt;"})
_QUOTED: Final = str.maketrans({'"': "&quot;", "\n": "&#10;", "\t": "&#9;"})


def content(text: str) -> str:
    r"""Return `text` for between tags; what XML or a reader cannot bear is escaped as `\x01`."""
    return _ILLEGAL.sub(_escaped, visible(paired(text))).translate(_MARKUP)


def attributes(**values: str) -> str:
    """Return attributes as they stand in a tag, a blank before each."""
    return "".join(
        f' {name.rstrip("_")}="{content(value).translate(_QUOTED)}"'
        for name, value in values.items()
    )


def _escaped(found: re.Match[str]) -> str:
    return f"\\u{ord(found[0]):04x}"
