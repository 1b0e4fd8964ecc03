"""Options of the whole suite."""

import signal

import pytest
from hypothesis import HealthCheck, settings

settings.register_profile(  # a loaded machine is slow, not wrong
    "poeflow", deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("poeflow")

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    # A shell starts what it puts in the background with Ctrl-C ignored, and our processes would
    # inherit that: the tests that press it need what a person at a terminal has.
    signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--rewrite-cases",
        action="store_true",
        help="write what is found now as what is expected: tests/cases, tests/house/help.txt",
    )
