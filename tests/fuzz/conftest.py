"""Projects of fuzzing end with the session: workers of a parallel run end without `atexit`."""

import pytest
from fuzz_projects import removed


@pytest.fixture(autouse=True, scope="session")
def clean():
    yield
    removed()
