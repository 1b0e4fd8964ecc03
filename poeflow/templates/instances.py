"""The results of a step that ran once for each item, as templates see them."""

from collections.abc import Mapping

from poeflow.digest import Json
from poeflow.spec.loops import key_text


class Instances(dict[str, Json]):
    """Instances by key: `steps.ID["key"]`. `all` are those that were not skipped, in order."""

    def __init__(self, by_key: Mapping[str, Json], *, status: str) -> None:
        super().__init__(by_key)
        self.status = status
        self.all = [value for value in by_key.values() if not _is_skipped(value)]

    def attribute(self, name: str) -> Json:
        """Return what a template sees as `steps.ID.name`. Raises `LookupError`."""
        match name:
            case "all":
                return self.all
            case "status":
                return self.status
        raise LookupError(f'the step ran once for each item: write .all or ["key"], not .{name}')

    def instance(self, key: Json) -> Json:
        """Return the instance with that key, a number or a text. Raises `LookupError`."""
        text = key_text(key)
        if text in self:
            return self[text]
        known = ", ".join(name[:40] for name in list(self)[:12]) or "nothing"
        raise LookupError(f'there is no instance "{text[:80]}" here, only {known}')


def _is_skipped(value: Json) -> bool:
    return isinstance(value, dict) and value.get("status") == "skipped"
