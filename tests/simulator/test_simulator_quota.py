from simulator_desk import Desk, StoppedClock, body_of


def limits(reply) -> list[str]:
    headers = dict(reply.headers)
    names = ("limit", "remaining", "reset")
    return [headers[f"x-ratelimit-{name}-requests"] for name in names]


def test_the_cap_holds_for_a_minute_and_says_when_to_come_back():
    clock = StoppedClock()
    desk = Desk(clock=clock, rpm=2)
    first = desk.ask()
    clock.time += 10
    second = desk.ask()
    refused = desk.ask()
    clock.time += 49.5
    still = desk.ask()
    clock.time += 0.5
    again = desk.ask()
    replies = (first, second, refused, still, again)
    assert [reply.status for reply in replies] == [200, 200, 429, 429, 200]
    assert limits(first) == ["2", "1", "60"]
    assert limits(second) == ["2", "0", "50"]
    assert dict(refused.headers)["retry-after"] == "50"
    assert dict(still.headers)["retry-after"] == "1"
    assert body_of(refused)["error"]["type"] == "rate_limit_error"


def test_other_endpoints_do_not_count():
    desk = Desk(rpm=1)
    for _ in range(3):
        assert desk.send("GET", "/v1/models").status == 200
    assert desk.ask().status == 200


def test_without_a_cap_nothing_is_said_of_limits(desk):
    names = [name for name, _ in desk.ask().headers]
    assert not [name for name in names if name.startswith("x-ratelimit")]
