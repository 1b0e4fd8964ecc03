"""Why an instance's stored answer is used or not: its state, its reasons, and what differs."""

import difflib
import json

from poeflow.digest import Json
from poeflow.facts import Fact


def explained(fact: Fact, before: Json) -> str:
    """Return the explanation of one instance. `before` is what the last run sent for it, if known.

    A request that would be sent now is compared with it line by line.
    """
    lines = [f"{fact.id}: {fact.state}", *(f"  {reason}" for reason in fact.reasons)]
    if fact.request is None:
        hit = "it is not asked" if fact.state == "unknown" else "its stored answer is used"
        return "\n".join([*lines, f"  {hit}"])
    if before is None:
        return "\n".join([*lines, "  nothing like it was sent before, so it is asked"])
    difference = difflib.unified_diff(
        _shown(before), _shown(fact.request), "the last request", "the next request", lineterm=""
    )
    return "\n".join([*lines, "  its request is another, so it is asked:", "", *difference])


def _shown(request: Json) -> list[str]:
    """Return a request as lines, long texts broken where they break."""
    text = json.dumps(request, ensure_ascii=False, indent=2, sort_keys=True)
    return text.replace("\\n", "\n      ").splitlines()
