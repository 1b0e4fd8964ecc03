"""Secret inputs: their values come from the environment and go into requests, nowhere else.

Templates see a stand-in, which has a keyed hash of the value: so do the lock and the history. The
variables of programs are hashed with that key, too.
"""

import contextlib
import hashlib
import hmac
import secrets
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Final

import msgspec

from poeflow.digest import encode_json
from poeflow.errors import UsageError
from poeflow.flowfile.model import Flow
from poeflow.opener import read_plain
from poeflow.project.atomic_write import draft
from poeflow.redact import SHORTEST_MASKED, Secret
from poeflow.settings import HASH_KEY_VARIABLE, child_environment, secret_variable

_SHORTEST_KEY: Final = 16
_LONGEST_KEY: Final = 4096
_SHOWN: Final = 16
"""How many hexadecimal digits of the keyed hash a stand-in has."""


class SecretInputs(msgspec.Struct, frozen=True):
    """The stand-ins of secret inputs by their names, and the values by their stand-ins."""

    stand_ins: Mapping[str, str]
    values: Mapping[str, Secret]


def secret_inputs(flow: Flow, environ: Mapping[str, str], *, makes_key: bool) -> SecretInputs:
    """Return the secret inputs of a flow that the environment has. Raises `UsageError`.

    If the user has no key of hashes and none is to be made, the stand-ins are of this call alone.
    """
    hash_key = b""
    stand_ins: dict[str, str] = {}
    values: dict[str, Secret] = {}
    for name, spec in flow.inputs.items():
        variable = secret_variable(name)
        written = environ.get(variable, "") if spec.secret else ""
        if not written.strip():
            continue
        try:
            secret = Secret(written)
        except ValueError:
            secret = Secret("-")
        if not secret.is_masked:
            message = f"the value of {variable} cannot be hidden, so it is not used"
            hint = f"{SHORTEST_MASKED} to 512 printable ASCII characters without spaces can be"
            raise UsageError(message, hint=hint)
        hash_key = hash_key or _hash_key(environ, makes_key=makes_key)
        digest = hmac.digest(hash_key, secret.reveal().encode(), hashlib.sha256).hex()
        stand_ins[name] = f"[secret {name}:{digest[:_SHOWN]}]"
        values[stand_ins[name]] = secret
    return SecretInputs(stand_ins, values)


def hashed_variables(
    environ: Mapping[str, str], names: Iterable[str], *, makes_key: bool
) -> dict[str, str]:
    """Return keyed hashes of variables that programs get, by name; none if there is no key.

    Each begins with what tells the key, so that hashes of different keys are not compared.
    """
    try:
        hash_key = _hash_key(environ, makes_key=makes_key)
    except UsageError:
        return {}
    own = hmac.digest(hash_key, b"the key itself", hashlib.sha256).hex()[:_SHOWN]
    safe, found = child_environment(environ), {}
    for name in names:
        data = encode_json([name, safe.get(name)])
        found[name] = f"{own}:{hmac.digest(hash_key, data, hashlib.sha256).hex()}"
    return found


def _hash_key(environ: Mapping[str, str], *, makes_key: bool) -> bytes:
    """Return the key of the hashes: that of the environment, else the user's, else a random one."""
    given = environ.get(HASH_KEY_VARIABLE, "").strip()
    if given:
        if len(given) < _SHORTEST_KEY:
            message = f"{HASH_KEY_VARIABLE} is shorter than {_SHORTEST_KEY} characters"
            raise UsageError(message, hint="make one: openssl rand -hex 32")
        return given.encode()
    made, path = secrets.token_hex(32).encode(), _key_path(environ)
    try:
        if not makes_key and not path.exists():
            return made
        if not path.exists():
            _make(path, made)
        found = read_plain(path, limit=_LONGEST_KEY)
    except OSError as error:
        raise _unusable(path, error) from None
    if len(found.strip()) < _SHORTEST_KEY:
        message = f"{path}, the key of hashes, is shorter than {_SHORTEST_KEY} characters"
        raise UsageError(message, hint=f"remove it, and the next run makes one; or {_SET_IT}")
    return found


def _make(path: Path, key: bytes) -> None:
    """Write the user's key, unless another process does so meanwhile. Raises `OSError`."""
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    with contextlib.suppress(FileExistsError), draft(path, mode=0o600) as file:
        if path.exists():  # a draft is locked, so that only one process gets here at a time
            raise FileExistsError
        file.write(key)


def _key_path(environ: Mapping[str, str]) -> Path:
    base = environ.get("XDG_STATE_HOME", "").strip()
    home = environ.get("HOME", "").strip()
    if not base and not home:
        raise UsageError("there is no folder for the key of hashes", hint=_SET_IT)
    return Path(base or f"{home}/.local/state") / "poeflow" / "hash-key"


def _unusable(path: Path, error: OSError) -> UsageError:
    reason = (error.strerror or "cannot be used").lower()
    return UsageError(f"{path}, the key of hashes: {reason}", hint=_SET_IT)


_SET_IT: Final = f"set {HASH_KEY_VARIABLE} to a random text of {_SHORTEST_KEY} characters or more"
