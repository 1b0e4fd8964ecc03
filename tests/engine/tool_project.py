"""A project with a module of tools, for the tests of tools."""

import asyncio
import json

import pytest

from poeflow.client.answers import ToolCall
from poeflow.engine.asking.tools import Toolbox
from poeflow.errors import UsageError
from poeflow.flowfile.model import Tool

CITY = {"type": "object", "required": ["city"], "properties": {"city": {"type": "string"}}}


def call(name, arguments="{}", own="call_1"):
    written = arguments if isinstance(arguments, str) else json.dumps(arguments)
    raw = {"type": "function", "function": {"name": name, "arguments": written}}
    return ToolCall(raw if own is None else {"id": own, **raw})


class Project:
    """A folder with one module of tools."""

    def __init__(self, folder):
        self.folder = folder

    def write(self, name, text):
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)

    def load(self, run, parameters=None, **options):
        tool = Tool(name="get", parameters=parameters or {}, run=run)
        return Toolbox.load([tool], folder=self.folder, **options)

    def use(self, code, arguments="{}", parameters=None, **options):
        """Return how one call of the function `get` in `code` was answered."""
        self.write("some_tools.py", code)
        box = self.load("some_tools:get", parameters, **options)
        return asyncio.run(box.answer([call("get", arguments)])).uses[0]

    def error(self, code, arguments="{}", parameters=None, **options):
        """Return what the model is told of a call that cannot be answered."""
        use = self.use(code, arguments, parameters, **options)
        assert use.is_error
        [(key, text)] = json.loads(use.result).items()
        assert key == "error"
        return text

    def refusal(self, run, **files):
        for name, text in files.items():
            self.write(f"{name}.py", text)
        with pytest.raises(UsageError) as caught:
            self.load(run)
        return str(caught.value)
