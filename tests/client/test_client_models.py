"""The list of models is fetched, or taken from disk while it is young enough."""

from pathlib import Path

import pytest

from poeflow.client.aio import AsyncPoeClient
from poeflow.client.sync import PoeClient
from poeflow.errors import NotFoundError, UsageError
from poeflow.simulator.server import Simulator

KEY = "canary-key-0123456789"


class Wall:
    """A clock whose time of day is set by hand."""

    def __init__(self) -> None:
        self.time = 1_000_000.0

    def monotonic(self) -> float:
        return 0.0

    def now(self) -> float:
        return self.time

    def sleep(self, seconds: float) -> None:
        raise AssertionError

    async def asleep(self, seconds: float) -> None:
        raise AssertionError


@pytest.fixture(params=["sync", "async"])
def listing(request):
    """Give how many models are listed, how often the server was asked, and the clock."""
    wall = Wall()
    with Simulator() as simulator:
        given = {"api_key": KEY, "base_url": simulator.base_url, "clock": wall}

        async def listed(**options: object) -> tuple[int, int]:
            if request.param == "sync":
                with PoeClient(**given) as client:
                    models = client.models.list(**options)
            else:
                async with AsyncPoeClient(**given) as other:
                    models = await other.models.list(**options)
            return len(models), len(simulator.requests)

        yield listed, wall


async def test_without_an_age_it_is_always_fetched_and_never_kept(listing, tmp_path):
    listed, _ = listing
    assert [await listed(folder=tmp_path), await listed(folder=tmp_path)] == [(30, 1), (30, 2)]
    assert list(tmp_path.iterdir()) == []


async def test_with_an_age_it_is_fetched_again_only_when_older(listing, tmp_path):
    listed, wall = listing
    folder = tmp_path / "new"
    assert await listed(max_age=60, folder=folder) == (30, 1)
    wall.time += 59
    assert await listed(max_age=60, folder=folder) == (30, 1)
    wall.time += 1
    assert await listed(max_age=60, folder=folder) == (30, 2)
    wall.time -= 3600
    assert await listed(max_age=60, folder=folder) == (30, 3), "a clock set back is not believed"


async def test_what_is_kept_holds_no_key_and_damage_is_mended(listing, tmp_path):
    listed, _ = listing
    await listed(max_age=60, folder=tmp_path)
    (path,) = tmp_path.iterdir()
    assert KEY.encode() not in path.read_bytes()
    path.write_bytes(b'{"fetched": 1')
    assert await listed(max_age=60, folder=tmp_path) == (30, 2)
    assert await listed(max_age=60, folder=tmp_path) == (30, 2)


async def test_a_folder_that_cannot_be_written_is_no_reason_to_fail(listing):
    listed, _ = listing
    assert await listed(max_age=60, folder=Path("/dev/null/below")) == (30, 1)


def test_the_list_is_that_of_the_openai_sdk_too():
    with Simulator() as simulator, PoeClient(api_key=KEY, base_url=simulator.base_url) as client:
        listed = client.models.list()
        assert isinstance(listed, tuple)
        assert listed.data == listed
        first = listed.data[0]
        assert client.models.retrieve(first.id.upper()) == first
        with pytest.raises(NotFoundError) as caught:
            client.models.retrieve("no-such\x1bbot")
        assert caught.value.message == "there is no bot 'no-such\\\\x1bbot' in the list"
        assert caught.value.status_code == 404


async def test_one_of_the_list_asynchronously():
    with Simulator() as simulator:
        async with AsyncPoeClient(api_key=KEY, base_url=simulator.base_url) as client:
            first = (await client.models.list()).data[0]
            assert await client.models.retrieve(first.id) == first


@pytest.mark.parametrize(
    ("given", "message"),
    [({"max_age": "60"}, "max_age must be"), ({"max_age": 60, "folder": "x"}, "folder must be")],
)
async def test_arguments_of_other_types_are_told(listing, given, message):
    listed, _ = listing
    with pytest.raises(UsageError, match=message):
        await listed(**given)
