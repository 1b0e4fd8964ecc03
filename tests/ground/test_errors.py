"""Which failure decides how a process ends, and what an error says."""

import copy
import inspect
import itertools
import pickle
from collections.abc import Callable

import pytest

from poeflow import errors
from poeflow.client.answers import Completion
from poeflow.errors import EXIT_CLASSES, PRECEDENCE, DiskError, first_error, most_serious
from poeflow.problems import Place, Problem

RULED = [{130, 143}, {70}, {8}, {7}, {2}, {3}, {5}, {9}, {1}, {6}, {4}, {0}]
"""RULINGS 12, most serious first; an interruption is one however it came."""


@pytest.mark.parametrize(("worse", "better"), list(itertools.combinations(RULED, 2)))
def test_the_more_serious_wins_in_any_order(worse, better):
    for one, other in itertools.product(worse, better):
        assert most_serious([one, other]) == most_serious([other, one]) == one


def test_of_nothing_is_success():
    assert most_serious(iter(())) == 0


def test_the_first_error_of_a_group_is_found_however_deep_it_is():
    full = DiskError("the disk is full")
    inner = BaseExceptionGroup("inner", [full, ValueError()])
    assert first_error(BaseExceptionGroup("outer", [inner, KeyError()])) is full


def test_a_code_that_is_none_is_a_bug():
    with pytest.raises(ValueError):
        most_serious([1, 99])


def test_every_code_has_a_class_and_a_place():
    assert sorted(PRECEDENCE) == sorted(EXIT_CLASSES)
    assert len(set(PRECEDENCE)) == len(PRECEDENCE)


def test_an_error_says_what_and_what_to_do():
    assert str(errors.UsageError("no such flow")) == "no such flow"
    told = errors.UsageError("no such flow", hint="see `poeflow check`")
    assert (told.message, told.hint) == ("no such flow", "see `poeflow check`")
    assert str(told) == "no such flow; see `poeflow check`"


def test_an_invalid_flow_tells_all_its_problems():
    problems = (Problem(Place("a.yaml"), "one", "do"), Problem(Place("a.yaml", 2, 3), "two"))
    error = errors.InvalidFlowError(problems)
    assert str(error) == "a.yaml:1:1: one; do\na.yaml:2:3: two"
    assert error.problems == problems


def test_a_status_error_keeps_what_the_server_said():
    error = errors.RateLimitError(
        "slow down", status_code=429, request_id="r-1", code="c", type="t", retry_after=2.5
    )
    assert (error.status_code, error.request_id, error.code, error.type) == (429, "r-1", "c", "t")
    assert (error.retry_after, error.may_retry, error.exit_code) == (2.5, True, 6)


ALL = [one for _, one in inspect.getmembers(errors, inspect.isclass) if issubclass(one, Exception)]


def made(error_class: type) -> errors.PoeflowError:
    """An error of a class, with another value than the default for all it takes."""
    values = {
        "message": "no",
        "hint": "look",
        "problems": (Problem(Place("a.yaml"), "one", "do"),),
        "completion": Completion({"id": "c1"}, request_id="req-1"),
        "request_id": "req-1",
        "was_sent": True,
        "status_code": 418,
        "code": "c",
        "type": "t",
        "param": "p",
        "body": {"error": {"message": "no"}},
        "retry_after": 2.5,
        "may_retry": False,
    }
    return error_class(**{name: values[name] for name in inspect.signature(error_class).parameters})


@pytest.mark.parametrize(
    "again", [copy.copy, copy.deepcopy, lambda e: pickle.loads(pickle.dumps(e))]
)
@pytest.mark.parametrize("error_class", ALL)
def test_an_error_is_copied_and_pickled_whole(error_class: type, again: Callable) -> None:
    error = made(error_class)
    error.add_note("while reading")
    found = again(error)
    assert (type(found), str(found), found.args) == (error_class, str(error), error.args)
    assert vars(found) == vars(error)
