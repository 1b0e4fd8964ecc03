"""One flow run from the command line, shown while it goes on."""

from dataclasses import replace

from poeflow.cli.interrupts import Ending
from poeflow.cli.results import Output, listener
from poeflow.engine.run import Outcome
from poeflow.events import Event, Listener
from poeflow.redact import Scrubber
from poeflow.report.lasting import Lasting
from poeflow.report.scrubbed import scrubbed
from poeflow.user_config import known_keys
from poeflow.wiring.checkup import Checkup
from poeflow.wiring.options import RunOptions
from poeflow.wiring.running import run_checked


def run_one(
    checked: Checkup, given: RunOptions, output: Output, *, also: tuple[Listener, ...] = ()
) -> Outcome:
    """Run a flow to its end, `also` heard by others; nothing that is shown holds a secret."""
    others = [Lasting(hear) for hear in also]
    with listener(output) as shown:

        def listen(event: Event) -> None:
            for hear in (shown, *others):
                hear(event)

        def stop() -> str:
            return given.stop() or (shown.reason_to_stop() if output == "jsonl" else "")

        heard = scrubbed(listen, Scrubber(*known_keys(given.environ)))
        ending = Ending()
        options = replace(given, listen=heard, stop=stop, cut_short=lambda: ending.exit_code)
        return ending.run(run_checked(checked, options))
