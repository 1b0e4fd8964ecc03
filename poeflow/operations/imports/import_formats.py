"""The formats of other tools that become flows: each by its name, and how it is known."""

from collections.abc import Callable, Mapping
from typing import Final

import msgspec

from poeflow.errors import UsageError
from poeflow.operations.imports.bot_names import BotNames
from poeflow.operations.imports.dotprompt import from_dotprompt
from poeflow.operations.imports.foreign_file import Source
from poeflow.operations.imports.imported_flow import ImportedFlow
from poeflow.operations.imports.llm_template import from_llm_template
from poeflow.operations.imports.promptfoo import from_promptfoo
from poeflow.operations.imports.prompty import from_prompty
from poeflow.project.project import Project


class ImportFormat(msgspec.Struct, frozen=True, kw_only=True):
    """A format: what it is called in a sentence, how a file of it is known, and its conversion."""

    about: str
    is_one: Callable[[Source], bool]
    convert: Callable[[Source, BotNames], ImportedFlow]


IMPORT_FORMATS: Final[Mapping[str, ImportFormat]] = {
    "promptfoo": ImportFormat(
        about="promptfooconfig.yaml",
        is_one=lambda source: (
            {"prompts"} <= source.data.keys()
            and bool({"providers", "targets", "tests"} & source.data.keys())
        ),
        convert=from_promptfoo,
    ),
    "prompty": ImportFormat(
        about=".prompty",
        is_one=lambda source: source.path.endswith(".prompty"),
        convert=from_prompty,
    ),
    "dotprompt": ImportFormat(
        about=".prompt",
        is_one=lambda source: source.path.endswith(".prompt"),
        convert=from_dotprompt,
    ),
    "llm": ImportFormat(
        about="a template of llm",
        is_one=lambda source: bool({"prompt", "system"} & source.data.keys()),
        convert=from_llm_template,
    ),
}


def imported(
    project: Project, path: str, shown: str, name: str | None, environ: Mapping[str, str]
) -> ImportedFlow:
    """Return the flow for a file of another tool, in the format `name` or the one it is known by.

    `environ` says where the list of bots is stored.

    Raises `UsageError`, `FileProblem`, and `InvalidFlowError` for invalid YAML.
    """
    source = Source(project, path, shown)
    formats = [IMPORT_FORMATS[name]] if name else IMPORT_FORMATS.values()
    found = next((one for one in formats if name or one.is_one(source)), None)
    if found is None and "poeflow" in source.data:
        raise UsageError(f"{shown} is a flow already", hint="run it: poeflow run")
    if found is None:
        known = ", ".join(f"{name} ({one.about})" for name, one in IMPORT_FORMATS.items())
        raise UsageError(f"{shown} is in no format that is known: {known}", hint="name it: --from")
    return found.convert(source, BotNames(project, environ))
