"""The bots of Poe behind the model names of other tools, and the parameters they share."""

import re
from collections.abc import Mapping
from typing import Final

import msgspec

from poeflow.client.catalogue import Catalogue, stored_catalogue
from poeflow.digest import Json
from poeflow.flowfile.yaml_tree import KeyPath
from poeflow.lazy_pattern import lazy_pattern
from poeflow.operations.imports.foreign_file import Source, dict_in
from poeflow.project.project import Project
from poeflow.simulator.bot_list import read_bot_list

_RELEASE: Final = lazy_pattern(
    r"([-@](20\d{6}|20\d\d-\d\d-\d\d)|-(latest|preview|exp)|-v\d+(:\d+)?|:free)+$", re.IGNORECASE
)
"""A date or a release at the end of a name, which a bot of Poe does not have."""
_SIZE: Final = lazy_pattern(r":\d+(\.\d+)?[bm][\w.-]*$", re.IGNORECASE)
"""The size of a local model, as in `llama3.3:70b`."""
_VENDOR: Final = lazy_pattern(r"^(?:[a-z]+\.)+(?=[a-z])")
"""What Bedrock writes before a name: `us.anthropic.`."""
_FROM_ELSEWHERE: Final = ("{{", "${", "file://")
"""What is in a setting that comes from the environment or a file."""
_PARAMETERS: Final = {
    "max_tokens": "max_tokens",
    "max_completion_tokens": "max_completion_tokens",
    "temperature": "temperature",
    "top_p": "top_p",
    "stop": "stop",
    "presence_penalty": "presence_penalty",
    "frequency_penalty": "frequency_penalty",
    "reasoning_effort": "reasoning_effort",
    "response_format": "response_format",
    "maxTokens": "max_tokens",
    "maxOutputTokens": "max_tokens",
    "maxCompletionTokens": "max_completion_tokens",
    "topP": "top_p",
    "stopSequences": "stop",
    "presencePenalty": "presence_penalty",
    "frequencyPenalty": "frequency_penalty",
    "reasoningEffort": "reasoning_effort",
}
"""Parameters by the names that tools give them, with those of the API."""


class BotNames:
    """Finds bots of Poe: those of the stored list, and those that the simulator has."""

    def __init__(self, project: Project, environ: Mapping[str, str]) -> None:
        known = Catalogue.parse(msgspec.json.decode(read_bot_list(None).listing))
        stored, _ = stored_catalogue(project, environ)
        bots = [*known.bots, *(stored.bots if stored is not None else ())]
        self._names = {_letters(name): bot.name for bot in bots for name in (bot.id, bot.name)}

    def find(self, name: str, source: Source, at: KeyPath) -> str:
        """Return the bot for a name such as `openai:gpt-4o`.

        If none is known it is the name without its provider, with a note.
        """
        bare = _SIZE.sub("", _RELEASE.sub("", name))
        bare = _VENDOR.sub("", _RELEASE.sub("", re.split(r"[:/]", bare)[-1]))
        for one in (bare, bare.rpartition(".")[2]):
            found = self._names.get(_letters(one))
            if found:
                return found
        source.note(at, f'no bot is known for the model "{name}"', "see `poeflow models`")
        return bare or name


def api_parameters(given: Json, source: Source, at: KeyPath) -> dict[str, Json]:
    """Return what the API knows of a tool's settings of a model, by the API's names."""
    settings = dict_in(given)
    source.note_rest(at, settings, frozenset(_PARAMETERS))
    found: dict[str, Json] = {}
    for key, value in settings.items():
        if key not in _PARAMETERS:
            continue
        if isinstance(value, str) and any(mark in value for mark in _FROM_ELSEWHERE):
            source.note((*at, key), f"{key} is not taken over: it is {value}", "write its value")
        else:
            found[_PARAMETERS[key]] = value
    return found


def _letters(name: str) -> str:
    return "".join(filter(str.isalnum, name.casefold()))
