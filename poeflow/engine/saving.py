"""What an instance leaves on disk: its text, and the files a bot drew for it.

Each path is claimed once in a run, recorded in the ledger, then replaced whole.
"""

import asyncio
import unicodedata
from collections.abc import Callable

from poeflow.client.download import download, wanted
from poeflow.client.network import Internet
from poeflow.digest import sha256_of
from poeflow.engine.means import Means
from poeflow.errors import StepError
from poeflow.events import FileWritten
from poeflow.files import check_output_path
from poeflow.outputs.media import file_name, urls_in
from poeflow.outputs.write import file_bytes


class Saver:
    """Writes the files of one run. `elapsed` gives the seconds since it began."""

    def __init__(self, means: Means, *, elapsed: Callable[[], float]) -> None:
        self._means = means
        self._elapsed = elapsed
        self._claims: dict[str, str] = {}
        self._internet = Internet()

    async def text(self, instance: str, path: str, text: str, *, relative_to: str) -> None:
        """Write the text of `instance` to `path`, written in the file `relative_to`.

        Raises `FileProblem`, `DiskError`, or `StepError` where another instance wrote there.
        """
        target = self._means.project.canonical(path, relative_to=relative_to)
        check_output_path(target)
        claim = unicodedata.normalize("NFC", target).casefold()
        owner = self._claims.setdefault(claim, instance)
        if owner != instance:
            hint = "give each a path of its own, with {{ key | slug }} in it"
            raise StepError(f"{target} was written by {owner} already", hint=hint)
        await self._write(instance, target, file_bytes(text))

    async def media(
        self, instance: str, folder: str, text: str, *, relative_to: str
    ) -> tuple[str, ...]:
        """Fetch the files an answer links to into `folder`; return their project paths.

        Raises `StepError` where there is none, or one is not what it should be.
        """
        urls = wanted(urls_in(text), self._means.downloads)
        if not urls:
            beginning = " ".join(text[:200].split())[:80]
            raise StepError(f'the answer has no media: "{beginning}"', hint="ask for a picture")
        paths: list[str] = []
        for url in urls:
            data = await self._fetched(url)
            name = f"{folder.rstrip('/')}/{file_name(data)}"
            target = self._means.project.canonical(name, relative_to=relative_to)
            check_output_path(target)
            await self._write(instance, target, data)
            paths.append(target)
        return tuple(dict.fromkeys(paths))

    async def _fetched(self, url: str) -> bytes:
        """Return what an address holds: kept from before, or fetched and kept."""
        kept = await asyncio.to_thread(self._means.answers.media, url)
        if kept is not None:
            return kept
        data = await download(
            url, self._means.downloads, clock=self._means.clock, network=self._internet
        )
        await asyncio.to_thread(self._means.answers.put_media, url, data)
        return data

    async def _write(self, instance: str, target: str, data: bytes) -> None:
        await asyncio.to_thread(self._replace, target, data)
        path = self._means.outputs.shown(target, self._means.project.root)
        event = FileWritten(at=self._elapsed(), step=instance, path=path, size=len(data))
        self._means.listen(event)

    def _replace(self, target: str, data: bytes) -> None:
        self._means.ledger.record(target, sha256_of(data))
        self._means.outputs.write(target, data)
