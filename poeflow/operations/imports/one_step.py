"""A flow of one step: what the files of tools for single prompts become."""

from collections.abc import Mapping
from pathlib import PurePosixPath

from poeflow.digest import Json
from poeflow.flowfile.yaml_tree import KeyPath
from poeflow.operations.imports.bot_names import BotNames, api_parameters
from poeflow.operations.imports.foreign_file import Source
from poeflow.operations.imports.imported_flow import ImportedFlow
from poeflow.operations.imports.new_names import input_name, word_of


def model_keys(
    source: Source, bots: BotNames, name: Json, parameters: Json, *, at: tuple[KeyPath, KeyPath]
) -> dict[str, Json]:
    """Return the keys of a step for a model and its parameters; `at` are the paths of both."""
    keys: dict[str, Json] = {}
    if isinstance(name, str) and name:
        keys["model"] = bots.find(name, source, at[0])
    else:
        source.note((), "it names no model", "give the step a model: see `poeflow models`")
    found = api_parameters(parameters, source, at[1])
    return {**keys, **({"params": found} if found else {})}


def one_step_flow(
    source: Source, inputs: Mapping[str, Json], step: Mapping[str, Json]
) -> ImportedFlow:
    """Return the flow; `inputs` are by the names that they have in the file."""
    flow: dict[str, Json] = {"poeflow": 1}
    description = source.data.get("description")
    if isinstance(description, str):
        flow["description"] = description
    for name in inputs:
        if input_name(name) != name:
            source.note((), f'the input "{name}" is called {input_name(name)} in the flow')
    if inputs:
        flow["inputs"] = {input_name(name): shape for name, shape in inputs.items()}
    step_name = source.data.get("name") or PurePosixPath(source.path).stem
    return ImportedFlow(
        flow={**flow, "steps": {word_of(str(step_name)): {**step}}}, notes=source.notes
    )
