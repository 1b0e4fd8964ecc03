"""Where the parts of the pages are: as addresses of a server, or as places within one file."""

from typing import Protocol


class Links(Protocol):
    """Gives the address of each thing; empty for what is not to be had there."""

    def runs(self) -> str: ...

    def run(self, run: int) -> str: ...

    def step(self, run: int, step: int) -> str: ...

    def instance(self, run: int, number: int) -> str: ...

    def text(self, run: int, number: int) -> str:
        """The answer of an instance, whole and as plain text."""

    def comparison(self, old: int, new: int) -> str: ...


class SiteLinks:
    """The addresses of a server whose pages are all below `root`."""

    def __init__(self, root: str) -> None:
        self.root = root

    def runs(self) -> str:
        return f"{self.root}/"

    def run(self, run: int) -> str:
        return f"{self.root}/runs/{run}"

    def step(self, run: int, step: int) -> str:
        return f"{self.root}/runs/{run}/steps/{step}"

    def instance(self, run: int, number: int) -> str:
        return f"{self.root}/runs/{run}/{number}"

    def text(self, run: int, number: int) -> str:
        return f"{self.instance(run, number)}/text"

    def picture(self, run: int, number: int, digest: str) -> str:
        return f"{self.instance(run, number)}/pictures/{digest}"

    def comparison(self, old: int, new: int) -> str:
        return f"{self.root}/compare?a={old}&b={new}"


class FileLinks:
    """The places within a page that holds a whole run."""

    def runs(self) -> str:
        return ""

    def run(self, run: int) -> str:
        return "#run"

    def step(self, run: int, step: int) -> str:
        return f"#step-{step}"

    def instance(self, run: int, number: int) -> str:
        return f"#instance-{number}"

    def text(self, run: int, number: int) -> str:
        return ""

    def comparison(self, old: int, new: int) -> str:
        return ""
