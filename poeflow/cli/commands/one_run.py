"""One flow run from the command line, shown while it goes on."""

from dataclasses import replace

from poeflow.cli.results import Output, listener
from poeflow.cli.signals import Ending
from poeflow.engine.run import Outcome
from poeflow.events import Event, Listener
from poeflow.operations.check import Checkup
from poeflow.operations.run import run_checked
from poeflow.operations.run_options import RunOptions
from poeflow.redact import Scrubber
from poeflow.report.lasting import Lasting
from poeflow.report.scrubbed import scrubbed
from poeflow.user_config import known_keys


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
