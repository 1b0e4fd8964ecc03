"""What passed in a run is counted by loop, and by each model and value of a matrix."""

from poeflow import events
from poeflow.report.pass_rates import PassRates

VERDICT = events.Verdict(kind="contains", passed=True, level="error", message="")


def ended(step: str, cost: float | None = None, tokens: int = 0) -> events.StepFinished:
    return events.StepFinished(
        at=1, step=step, source="asked", simulated=False, seconds=1, prompt_tokens=tokens,
        cost_usd=cost, verdicts=(VERDICT,),
    )  # fmt: skip


def begun(step: str, model: str) -> events.StepStarted:
    return events.StepStarted(at=0, step=step, model=model)


def rates(*happened: events.Event) -> dict[str, list[tuple[str, str, int, int]]]:
    found = PassRates()
    for event in happened:
        found(event)
    return {
        step: [(one.axis, one.value, one.passed, one.judged) for one in those]
        for step, those in found
    }


def test_rows_are_counted_by_the_models_that_were_asked():
    both = (begun("a[x]", "A"), begun("a[y]", "B"))
    assert rates(*both, ended("a[x]"), ended("a[y]"), ended("once")) == {
        "a": [("", "", 2, 2), ("model", "A", 1, 1), ("model", "B", 1, 1)]
    }


def test_models_are_not_compared_if_one_is_not_known():
    assert rates(begun("a[x]", "A"), ended("a[x]"), ended("a[y]")) == {"a": [("", "", 2, 2)]}


def test_an_axis_of_very_many_values_is_not_shown():
    many = [ended(f"a[row={n},tone={n % 2}]") for n in range(30)]
    assert [axis for axis, *_ in rates(*many)["a"]] == ["", "tone", "tone"]


def test_a_loop_without_expectations_is_not_judged_until_one_fails():
    plain = events.StepFinished(at=1, step="a[x]", source="asked", simulated=False, seconds=1)
    broken = events.StepFailed(at=1, step="a[y]", message="no", error_class="failed", seconds=1)
    assert rates(plain) == {}
    assert rates(plain, broken) == {"a": [("", "", 1, 2)]}


def test_a_cost_is_known_if_every_price_is():
    found = PassRates()
    for event in (ended("a[x]", 0.5, 10), ended("a[y]", None, 0)):
        found(event)
    assert [rate.cost_usd for _, (rate,) in found] == [0.5]
    found(ended("a[z]", None, 10))
    assert [rate.cost_usd for _, (rate,) in found] == [None]
