"""Options of the whole suite."""

import pytest
from hypothesis import HealthCheck, settings

settings.register_profile(  # a loaded machine is slow, not wrong
    "poeflow", deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("poeflow")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--rewrite-cases",
        action="store_true",
        help="write what is found now as what is expected: tests/cases, tests/house/help.txt",
    )
