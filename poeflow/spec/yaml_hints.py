"""What a person probably meant where libyaml gave up, judged from the source line."""

import re
from typing import Final

_QUOTE: Final = "quote it, or use |"
_CASES: Final = (
    (r"^ *\t", "indent with spaces, not tabs"),
    (r"^[^'\"|>]*:\s+\{\{", f"a value that begins with {{{{ is a mapping to YAML: {_QUOTE}"),
    (r"^[^'\"|>]*(:|-)\s+\{%", f"a value cannot begin with {{%: {_QUOTE}"),
    (r"^[^'\"|>]*(:|-)\s+\*", f"a value that begins with * is an alias to YAML: {_QUOTE}"),
    (r"^[^'\"|>]*(:|-)\s+[@`%]", f"a value cannot begin with this character: {_QUOTE}"),
    (r"^\s*-?\s*[\w.-]+:\s+[^'\"|>\s][^'\"]*:(\s|$)", f"the text holds a colon: {_QUOTE}"),
)


def hint_for(line: str) -> str:
    """Return a hint for a source line YAML cannot read, or the empty string."""
    return next((hint for shape, hint in _CASES if re.search(shape, line[:2000])), "")
