"""The functions of flows/changelog.yaml: one counts changes, one judges an answer."""

from collections import Counter


def count(changes: str) -> dict[str, int]:
    """Return how many lines begin with each word."""
    return dict(Counter(line.partition(":")[0] for line in changes.splitlines()))


def is_plain(text: str) -> dict[str, object]:
    """Judge an answer: return whether it has no marks of Markdown, and why not."""
    marks = [mark for mark in ("**", "##", "```") if mark in text]
    return {"passed": not marks, "reason": f"it has {', '.join(marks)}" if marks else ""}
