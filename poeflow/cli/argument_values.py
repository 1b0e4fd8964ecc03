"""What a command line brings: inputs as pairs, and the key from a file."""

import io
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Final

from poeflow.errors import UsageError
from poeflow.opener import NotTextError, read_named, text_of
from poeflow.project.places import read_given
from poeflow.settings import BASE_URL_VARIABLE, KEY_VARIABLE

MAX_ENV_BYTES: Final = 1024 * 1024
MAX_VALUE_BYTES: Final = 64 * 1024 * 1024


def input_texts(pairs: Iterable[str]) -> dict[str, str]:
    """Read `NAME=VALUE` pairs; `@path` takes a file's text, `@-` standard input's, `@@` is an @.

    Raises `UsageError`.
    """
    texts: dict[str, str] = {}
    for pair in pairs:
        name, separator, value = pair.partition("=")
        if not separator or not name:
            raise UsageError(f"--input {pair!r} is not NAME=VALUE", hint="for example topic=otters")
        texts[name] = _content(value)
    return texts


def input_files(pairs: Iterable[str]) -> tuple[Path, ...]:
    """Return the files that `NAME=@path` pairs take their texts from."""
    values = (pair.partition("=")[2] for pair in pairs)
    return tuple(
        Path(value[1:]).absolute()
        for value in values
        if value.startswith("@") and not value.startswith("@@") and value != "@-"
    )


def without_stdin(pairs: Iterable[str]) -> tuple[str, ...]:
    """Return the pairs with the text that `@-` stands for, so that they can be read twice."""
    return tuple(
        f"{pair[:-2]}{_as_value(sys.stdin.read())}" if pair.partition("=")[2] == "@-" else pair
        for pair in pairs
    )


def _as_value(text: str) -> str:
    return f"@{text}" if text.startswith("@") else text


def environment(
    base: Mapping[str, str], env_file: Path | None, variables: Iterable[str] = (KEY_VARIABLE,)
) -> Mapping[str, str]:
    """Return the environment with the keys that `env_file` holds; nothing else is taken of it.

    `variables` are those that hold keys. Raises `UsageError`, also where the file tries to say
    where a key goes.
    """
    if env_file is None:
        return base
    from dotenv import dotenv_values

    values = dotenv_values(stream=io.StringIO(_env_text(env_file)), interpolate=False)
    if BASE_URL_VARIABLE in values:
        raise UsageError(
            f"{env_file} sets {BASE_URL_VARIABLE}", hint="set it in the environment itself"
        )
    return {**base, **{name: key for name in variables if (key := values.get(name))}}


def _env_text(path: Path) -> str:
    """Return the text of a file of keys; a pipe will do. Raises `UsageError`."""
    try:
        return text_of(read_named(path, limit=MAX_ENV_BYTES))
    except FileNotFoundError:
        raise UsageError(f"{path}: no such file", hint=f"it holds {KEY_VARIABLE}=...") from None
    except NotTextError:
        raise UsageError(f"{path} is not UTF-8 text", hint=f"it holds {KEY_VARIABLE}=...") from None
    except OSError as error:
        reason = (error.strerror or "cannot be read").lower()
        hint = f"name a file that holds {KEY_VARIABLE}=..."
        raise UsageError(f"{path}: {reason}", hint=hint) from None


def _content(value: str) -> str:
    if value.startswith("@@") or not value.startswith("@"):
        return value.removeprefix("@")
    if value == "@-":
        return sys.stdin.read()
    path = Path(value[1:])
    try:
        return text_of(read_given(path, limit=MAX_VALUE_BYTES))
    except NotTextError:
        raise UsageError(f"{path} is not UTF-8 text", hint="use an input of type file") from None
    except OSError as error:
        reason = (error.strerror or "cannot be read").lower()
        raise UsageError(
            f"{path}: {reason}", hint="write @@ for a value that begins with @"
        ) from None
