"""Cases as files: flows without a problem, and flows with the problems written beside them.

`pytest tests/planning --rewrite-cases` writes what is found now; read the difference.
"""

import pytest
from case_files import CASES, listing

VALID = sorted(path.name for path in (CASES / "valid").glob("*.yaml"))
INVALID = sorted(
    path.name
    for path in (CASES / "invalid").glob("*.yaml")
    if not path.name.endswith(".inputs.yaml")
)


@pytest.mark.parametrize("name", VALID)
def test_a_valid_flow_has_no_problem(name):
    assert listing(CASES / "valid", name) == ""


@pytest.mark.parametrize("name", INVALID)
def test_an_invalid_flow_has_the_problems_beside_it(name, request):
    expected = (CASES / "invalid" / name).with_suffix(".problems")
    found = listing(CASES / "invalid", name)
    if request.config.getoption("--rewrite-cases"):
        expected.write_text(found)
    assert found
    assert found == expected.read_text()


def test_every_expectation_belongs_to_a_flow():
    listed = {path.stem for path in (CASES / "invalid").glob("*.problems")}
    assert listed == {name.removesuffix(".yaml") for name in INVALID}
