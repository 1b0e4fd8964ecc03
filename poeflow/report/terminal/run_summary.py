"""What a run did, will send, and how a step ended: each in one line of words."""

import msgspec

from poeflow.clock import spoken
from poeflow.errors import EXIT_CLASSES
from poeflow.events import RunEstimated, RunFinished, StepFinished
from poeflow.records import Counts, going_on, not_come_to


def final_lines(event: RunFinished) -> tuple[str, ...]:
    """Return the summary of a run, and lines on how to continue if it did not finish."""
    counts = _counts(event)
    advice = going_on(
        counts,
        exit_code=event.exit_code,
        is_simulated=event.simulated,
        is_refresh=event.is_refresh,
    )
    return tuple(filter(None, (summary(event), not_come_to(counts), advice)))


def summary(event: RunFinished) -> str:
    """Say what a whole run did: `3 asked, 1 cached in 4.2 s`."""
    done = [f"{count:,} {word}" for word, count in _counts(event).endings.items()]
    spent = [
        f"{event.requests:,} request{'' if event.requests == 1 else 's'}" if event.requests else "",
        f"{event.tokens:,} tokens" if event.tokens else "",
        f"about {event.cost_usd:.4f} USD" if event.cost_usd and not event.simulated else "",
        unknown_outcome(event.unknown),
    ]
    took = f"{spoken(event.seconds)}{' (simulated)' if event.simulated else ''}"
    if EXIT_CLASSES.get(event.exit_code) == "interrupted":
        text = ", ".join(filter(None, (*done, *spent)))
        return f"interrupted after {took}: {text or 'nothing was asked'}"
    return ", ".join((f"{', '.join(done) or 'nothing to do'} in {took}", *filter(None, spent)))


def _counts(event: RunFinished) -> Counts:
    fields = msgspec.structs.asdict(event)
    return Counts(**{name: fields[name] for name in Counts.__struct_fields__})


def unknown_outcome(count: int) -> str:
    """Say how many requests have an unknown outcome and may have been billed; empty for none."""
    return f"{count:,} of unknown outcome" if count else ""


def estimated(event: RunEstimated) -> str:
    """Say what a run will send: `5,000 requests to send, about 45,000 prompt tokens`."""
    most = event.most_requests
    often = f" to {most:,}" if most is not None and most > event.requests else ""
    often += " or more" if most is None else ""
    noun = "request" if event.requests == event.most_requests == 1 else "requests"
    about = "about " if event.is_sample else ""
    parts = [f"{about}{event.requests:,}{often} {noun} to send"]
    parts += [f"about {event.prompt_tokens:,} prompt tokens"]
    parts += [] if event.answer_tokens is None else [f"{event.answer_tokens:,} answer tokens"]
    parts += [] if event.cost_usd is None else [f"about {event.cost_usd:.4f} USD (estimated)"]
    return ", ".join(parts)


def finished(event: StepFinished) -> str:
    """Say where the text of a step came from: `answered in 2.1 s, 34 tokens`."""
    words = {"asked": "answered", "cached": "from the cache", "rendered": "rendered", "ran": "ran"}
    parts = [words[event.source]]
    if event.source == "asked":
        parts[0] += f" in {spoken(event.seconds)}"
        tokens = (event.prompt_tokens or 0) + (event.completion_tokens or 0)
        if tokens:
            parts.append(f"{tokens:,} tokens")
    if event.answered_by is not None:
        parts.append(f"by {event.answered_by}")
    if event.score is not None and event.score < 1:
        parts.append(f"score {event.score:.2f}")
    return ", ".join(parts)
