"""Where poeflow may write: never over what steers other programs, never a name that breaks one."""

import re
import unicodedata
from pathlib import PurePosixPath
from typing import Final

from poeflow.files import FileProblem
from poeflow.redact import visible


def check_output_path(canonical: str) -> None:
    """Check that poeflow may write there. Raises `FileProblem`."""
    parts = PurePosixPath(canonical[2:]).parts
    if not parts:
        raise FileProblem("the output path names no file", hint="for example out/notes.md")
    for part in parts:
        if part.lower() in _PROTECTED or part.lower().endswith(".lock.json"):
            hint = "save to another path"
            raise FileProblem(f"{canonical}: {part} is never written by poeflow", hint=hint)
        is_reserved = part.split(".")[0].rstrip().upper() in _WINDOWS_NAMES
        is_odd = part != part.strip() or part.endswith(".") or visible(part) != part
        if is_reserved or is_odd or _UNSAFE.search(part) or _size(part) > _MOST_BYTES:
            hint = "use letters, digits, dots, hyphens"
            raise FileProblem(f'{canonical}: "{part}" is not a safe file name', hint=hint)


def claim_of(target: str) -> str:
    """Return a path as a file system that ignores case, or spells letters its way, sees it."""
    return unicodedata.normalize("NFC", target).casefold()


def _size(name: str) -> int:
    """Return how many bytes a name has on disk, whatever the locale of this machine is."""
    return len(name.encode("utf-8", "surrogatepass"))


_MOST_BYTES: Final = 255
_PROTECTED: Final = frozenset(
    {".circleci", ".git", ".gitattributes", ".github", ".gitlab-ci.yml", ".gitmodules", ".poeflow"}
    | {".husky", ".pre-commit-config.yaml", ".travis.yml", "azure-pipelines.yml", "jenkinsfile"}
)
_UNSAFE: Final = re.compile(r'[\x00-\x1f<>:"|?*\\]')
_WINDOWS_NAMES: Final = frozenset(
    {"CON", "PRN", "AUX", "NUL", *(f"{port}{n}" for port in ("COM", "LPT") for n in range(1, 10))}
)
