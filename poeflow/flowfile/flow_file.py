"""A flow with the document that it was built from: what all that comes after loading works on."""

from collections.abc import Mapping

import msgspec

from poeflow.digest import Json
from poeflow.flowfile.model import Flow
from poeflow.flowfile.yaml_tree import Document


class FlowFile(msgspec.Struct, frozen=True, kw_only=True):
    """A flow and its source. `path` is canonical in the project: `//flows/notes.yaml`.

    `is_sound` if loading found no errors and dropped nothing; `whole` is the document before it
    dropped anything. `pinned_models` are the project's patterns of names that a model may have,
    None for any.
    """

    flow: Flow
    document: Document
    path: str
    is_sound: bool = True
    pinned_models: tuple[str, ...] | None = None
    whole: Document | None = None

    @property
    def name(self) -> str:
        """The flow's own name, else the file's stem."""
        return self.flow.name or self.path.rsplit("/", 1)[-1].rsplit(".", 1)[0]

    def early_names(self, inputs: Mapping[str, Json]) -> dict[str, Json]:
        """Return the names that templates can use before any step has run."""
        about: Json = {"name": self.name, "description": self.flow.description}
        return {"inputs": dict(inputs), "flow": about}
