"""Private files: settings, keys and passwords, which flows may not read.

The table applies to every way of reading; `Access` has the user's exceptions.
"""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Final, Self

import msgspec

from poeflow.lazy_pattern import lazy_pattern

NO_MATCH_HINT: Final = (
    "check the pattern; dot files, keys, backups and dependencies are never matched"
)
_DOT: Final = "dot files hold settings and keys"
_TABLE: Final = (
    (r".*\.(pem|key|p8|p12|pfx|ppk|pkcs12)", "it is named like a private key or a certificate"),
    (r".*\.(jks|keystore|kdbx?|agekey)", "it is named like a store of keys"),
    (r"id_[^.]*(\.pub)?|.*_(rsa|dsa|ecdsa|ed25519)", "it is named like an SSH key"),
    (r"[._]netrc|[._]npmrc|[._]pgpass|[._]?htpasswd", "it is named like a file of passwords"),
    (
        r"(.*[._-])?(credentials?|secrets?)(\.(json|ya?ml|toml|ini|cfg|csv|xml|txt|env|properties))?",
        "it is named like a file of credentials",
    ),
    (r"(service|gcp|google)[._-]?account.*\.json|kubeconfig|.*\.kubeconfig", "it opens a cloud"),
    (r".*\.(env|envrc|tfstate|tfvars|ovpn)", "its kind holds passwords"),
)
"""Names of files, in any case, each with why it is private."""
_FLAGS: Final = re.DOTALL | re.IGNORECASE
_ANY: Final = lazy_pattern("|".join(f"(?:{pattern})" for pattern, _ in _TABLE), _FLAGS)


def why_private(parts: Sequence[str]) -> str:
    """Return why a path below the project's root is private, empty if it is not."""
    if any(part.startswith(".") for part in parts):
        return _DOT
    name = parts[-1] if parts else ""
    if _ANY.fullmatch(name) is None:
        return ""
    return next(why for pattern, why in _TABLE if re.fullmatch(pattern, name, _FLAGS))


class Access(msgspec.Struct, frozen=True, kw_only=True):
    """The user's exceptions for single files, by their real paths.

    `allowed` are private files that flows may read, or folders whose names begin with a dot;
    `withheld` are files with keys of this run, with any name.
    """

    allowed: frozenset[Path] = frozenset()
    withheld: frozenset[Path] = frozenset()

    def allowing(self, *paths: Path) -> Self:
        """Return the access with `paths` allowed, both links and their targets."""
        named = {one for path in paths for one in (_located(path), path.resolve())}
        return msgspec.structs.replace(self, allowed=self.allowed | named)

    def withholding(self, *paths: Path) -> Self:
        """Return the access with `paths` withheld."""
        return msgspec.structs.replace(self, withheld=self.withheld.union(paths))

    def why_private(self, root: Path, parts: tuple[str, ...]) -> str:
        """Return why the file at `parts` below `root` may not be read, empty if it may."""
        for length in range(len(parts), 0, -1) if self.allowed else ():
            if root.joinpath(*parts[:length]) in self.allowed:
                return why_private(parts[length:])
        return why_private(parts) or (self._why_withheld(root, parts) if self.withheld else "")

    def _why_withheld(self, root: Path, parts: tuple[str, ...]) -> str:
        path = root.joinpath(*parts)
        is_withheld = any(_is_same(path, one) for one in self.withheld)
        return "it is the file of --env-file" if is_withheld else ""


def _located(path: Path) -> Path:
    """Return a path without links in its folders; its last part may be a link."""
    return path.parent.resolve() / path.name


def _is_same(one: Path, other: Path) -> bool:
    """Return whether two paths are the same file, links followed."""
    try:
        return one.samefile(other)
    except OSError:
        return False
