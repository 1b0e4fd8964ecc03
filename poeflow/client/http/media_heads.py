"""What the head of a media server's answer stands for: a file, another address, or a refusal."""

from typing import Final
from urllib.parse import urljoin

from poeflow.client.failures import BY_STATUS, retry_after
from poeflow.client.http.heads import Head
from poeflow.errors import InternalServerError, StepError

MIB: Final = 1024 * 1024
_REDIRECTS: Final = frozenset({301, 302, 303, 307, 308})
EXPIRED: Final = "the address may have expired; ask again with --refresh"


def redirection_of(head: Head, url: str, place: str) -> str | None:
    """Return the address that `url` redirects to, None where it does not redirect.

    The address is not checked yet. Raises `StepError` where it is none.
    """
    if head.status not in _REDIRECTS:
        return None
    try:
        return urljoin(url, head.headers["location"])
    except (KeyError, ValueError):
        raise StepError(f"{place} redirects nowhere", hint=EXPIRED) from None


def check_head(head: Head, place: str, *, limit: int, now: float) -> None:
    """Raise the error that a response's head stands for, none where a file follows.

    `now` is in seconds since 1970, `place` for the message.
    """
    if head.status in (408, 429) or head.status >= 500:
        status_error = BY_STATUS.get(head.status, InternalServerError)
        wait = retry_after(head.headers, now=now)
        message = f"{place} is not there now ({head.status})"
        raise status_error(message, status_code=head.status, hint="try again", retry_after=wait)
    if head.status != 200:
        raise StepError(f"{place} is not to be had ({head.status})", hint=EXPIRED)
    media_type = head.headers.get("content-type", "").partition(";")[0].strip().lower()
    if _is_document(media_type):
        message = f"{place} holds {media_type}, no picture, film or sound"
        raise StepError(message, hint=EXPIRED)
    if head.headers.get("content-encoding", "identity").lower() != "identity":
        raise StepError(f"{place} comes compressed, which was not asked for", hint=EXPIRED)
    length = head.headers.get("content-length", "")
    if length.isdigit() and int(length) > limit:
        raise too_large(place, limit)


def _is_document(media_type: str) -> bool:
    """Tell whether it is text or markup, such as an error page, JSON or SVG."""
    kind, _, name = media_type.partition("/")
    return kind == "text" or name in ("json", "xml") or name.endswith(("+json", "+xml"))


def too_large(place: str, limit: int) -> StepError:
    return StepError(f"{place} is larger than {limit / MIB:g} MiB", hint="ask the bot for less")
