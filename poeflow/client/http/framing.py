"""Where a response's body ends: counted, chunked, or with the connection. Without I/O."""

from collections.abc import Mapping
from typing import Final

from poeflow.client.bounds import MAX_TRAILERS, Count, Pieces
from poeflow.errors import APIResponseError

_MAX_LINE: Final = 64 * 1024


def framing_of(status: int, headers: Mapping[str, str]) -> "Framing":
    """Return what cuts the body out of the bytes that follow this head."""
    if status in (204, 304):
        return _Counted(0)
    if headers.get("transfer-encoding", "").lower() == "chunked":
        return _Chunked()
    length = headers.get("content-length", "")
    return _Counted(int(length)) if length.isascii() and length.isdigit() else Framing()


class Framing:
    """A body that ends where the connection does."""

    is_complete = False
    is_reusable = False

    def feed(self, data: bytes) -> bytes:
        return data

    def end(self) -> bool:
        self.is_complete = True
        return True


class _Counted(Framing):
    """A body of a known number of bytes."""

    def __init__(self, length: int) -> None:
        self._left = length
        self.is_complete = self.is_reusable = length == 0

    def feed(self, data: bytes) -> bytes:
        taken = data[: self._left] if len(data) > self._left else data
        self._left -= len(taken)
        if self._left == 0:
            self.is_complete = True
            self.is_reusable = len(taken) == len(data)
        return taken

    def end(self) -> bool:
        return self.is_complete


class _Chunked(Framing):
    """A chunked body (RFC 9112, section 7.1); extensions and trailers are dropped."""

    def __init__(self) -> None:
        self._rest = b""
        self._left = 0
        self._in_trailers = False
        self._pieces = Pieces()
        self._trailers = Count(MAX_TRAILERS, "the answer has too many trailers")

    def feed(self, data: bytes) -> bytes:
        if self._rest:
            data = self._rest + data
        pieces: list[bytes] = []
        at, size = 0, len(data)
        while at < size and not self.is_complete:
            if self._left > 2:
                stop = min(at + self._left - 2, size)
                pieces.append(data[at:stop])
                self._left -= stop - at
                at = stop
            elif self._left:
                if size - at < self._left:
                    break
                if data[at : at + 2] != b"\r\n":
                    raise APIResponseError("the answer's chunks are broken")
                at, self._left = at + 2, 0
            else:
                line_end = data.find(b"\r\n", at, at + _MAX_LINE)
                if line_end < 0:
                    if size - at >= _MAX_LINE:
                        raise APIResponseError("the answer's chunks are broken")
                    break
                self._begin(data[at:line_end])
                at = line_end + 2
        self._rest = data[at:]
        self.is_reusable = self.is_complete and not self._rest
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    def _begin(self, line: bytes) -> None:
        """Start the chunk that `line` announces, or end with the empty line after the last."""
        if self._in_trailers:
            self.is_complete = not line
            self._trailers.add()
            return
        digits = line.partition(b";")[0].strip()
        if not digits or len(digits) > 12 or digits.strip(b"0123456789abcdefABCDEF"):
            raise APIResponseError("the answer's chunks are broken")
        length = int(digits, 16)
        self._in_trailers = length == 0
        self._pieces.add(length)
        self._left = length + 2 if length else 0

    def end(self) -> bool:
        return self.is_complete
