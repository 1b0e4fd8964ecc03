"""Whatever bytes come, poeflow answers with one of its documented errors, or with what they say.

Faults that fuzzing found stand as tests beside what was mended; here new ones are looked for.
"""

import json
from random import Random

import pytest
from fuzz_mutations import mutated
from fuzz_projects import OFFLINE_LOCK, house, ran, sound_lock
from fuzz_seeds import seeds, words
from fuzz_structures import documents, jsons, schemas, templates
from fuzz_targets import TARGETS, tried
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from poeflow.errors import UsageError
from poeflow.operations.check import checkup
from poeflow.operations.proof import proof_of

some = settings(max_examples=20, suppress_health_check=list(HealthCheck))
RANDOM = st.integers(0, 2**32).map(Random)


@pytest.mark.parametrize("name", TARGETS)
def test_every_seed(name):
    assert seeds(name)
    for seed in seeds(name):
        tried(TARGETS[name], seed)


@pytest.mark.parametrize("name", TARGETS)
@some
@given(random=RANDOM)
def test_a_changed_seed(name, random):
    data = random.choice(seeds(name))
    tried(TARGETS[name], mutated(data, random, words(name), seeds(name)))


@pytest.mark.parametrize("name", TARGETS)
@some
@given(data=st.binary(max_size=60) | jsons().map(json.dumps).map(str.encode))
def test_any_bytes_and_any_json(name, data):
    tried(TARGETS[name], data)


@some
@given(schema=schemas(), value=jsons())
def test_any_schema(schema, value):
    tried(TARGETS["schema"], json.dumps({"schema": schema, "value": value}).encode())


@some
@given(text=templates())
def test_any_template(text):
    tried(TARGETS["template"], text.encode("utf-8", "replace"))


@some
@given(data=documents("flow.schema.json"))
def test_any_flow(data):
    tried(TARGETS["flow"], data)


@some
@given(data=documents("simulator-script.schema.json"))
def test_any_script(data):
    tried(TARGETS["script"], data)


def test_the_seeds_get_deep():
    here = ran("lock")
    here.write(OFFLINE_LOCK, sound_lock())
    found = checkup(here.project, "//flow.yaml", "flow.yaml")
    assert proof_of(found, here.options(offline=True)).reasons == []


@pytest.mark.parametrize("name", TARGETS)
def test_nothing_leaves_the_temporary_folder(name):
    assert house(name).root.name.startswith(f"poeflow-fuzz-{name}-")


@pytest.mark.parametrize("error", [KeyError, AssertionError, RecursionError, MemoryError])
def test_an_error_that_is_not_documented_is_a_fault(error):
    def target(data: bytes) -> None:
        raise error(data)

    with pytest.raises(error):
        tried(target, b"x")


def test_a_documented_error_is_no_fault():
    def target(data: bytes) -> None:
        raise UsageError(str(data))

    tried(target, b"x")
