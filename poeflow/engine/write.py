"""What an output file holds: its exact bytes for a text."""


def file_bytes(text: str) -> bytes:
    """Return the bytes of an output file: UTF-8, LF line ends, exactly one final newline."""
    unified = text.replace("\r\n", "\n").replace("\r", "\n")
    return (unified.rstrip("\n") + "\n").encode("utf-8", "replace")
