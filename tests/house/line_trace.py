"""Runs poeflow's command line as a program, and writes how a prompt came to the wire into a file.

`python line_trace.py FILE ARGUMENT...` writes JSON: `chain` are the frames of poeflow at the first
byte the client sends, from the command line down, through the tasks of asyncio; `calls` are all
functions of poeflow that ran in this thread until then, by their first call.
"""

import asyncio
import json
import socket
import sys
from pathlib import Path

import poeflow
from poeflow.cli.start import main

HOME = Path(poeflow.__file__).parent
EVENT_LOOP = (asyncio.events.__file__, "Handle._run")
new_event_loop = asyncio.events.new_event_loop
chains = {}
"""The frames that made each task, which its own frames no longer show."""
calls = {}
line = {}


def stop_of(code):
    """Return a function as `poeflow/cli/start.py: main`, None where it is not poeflow's."""
    if not code.co_filename.startswith(f"{HOME}/"):
        return None
    file = Path(code.co_filename).relative_to(HOME.parent).as_posix()
    return f"{file}: {code.co_qualname}"


def chain_of(frame):
    found = []
    while frame is not None:
        code = frame.f_code
        if (code.co_filename, code.co_qualname) == EVENT_LOOP:
            return [*chains.get(asyncio.current_task(), ()), *reversed(found)]
        found += filter(None, [stop_of(code)])
        frame = frame.f_back
    return found[::-1]


def remembering(loop, work, **given):
    task = asyncio.Task(work, loop=loop, **given)
    chains[task] = chain_of(sys._getframe(1))
    return task


def loop_that_remembers():
    loop = new_event_loop()
    loop.set_task_factory(remembering)
    return loop


def look(frame, event, called):
    if event == "call" and (stop := stop_of(frame.f_code)):
        calls.setdefault(stop)
    elif event == "c_call" and isinstance(getattr(called, "__self__", None), socket.socket):
        chain = chain_of(frame)
        if called.__name__ == "send" and any("/client/" in stop for stop in chain):
            sys.setprofile(None)
            line.update(chain=chain, calls=list(calls))


if __name__ == "__main__":
    target = Path(sys.argv.pop(1))
    asyncio.events.new_event_loop = loop_that_remembers
    sys.setprofile(look)
    try:
        main()
    finally:
        target.write_text(json.dumps(line), "utf-8")
