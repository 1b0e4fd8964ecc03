"""The language server: problems, definitions and explanations for editors, over stdin and stdout.

It checks what the editor shows, saved or not, and never runs or sends anything.
"""

import asyncio
from collections.abc import Mapping
from pathlib import Path
from typing import BinaryIO, Final
from urllib.parse import unquote, urlsplit

from lsprotocol import types
from pygls.lsp.server import LanguageServer

from poeflow.errors import PoeflowError
from poeflow.lazy_pattern import lazy_pattern
from poeflow.operations.check import Checkup, checkup
from poeflow.operations.editors.flow_places import (
    EditedProject,
    definition_of,
    explanation,
    named_at,
)
from poeflow.operations.run_options import RunOptions
from poeflow.problems import Problem
from poeflow.project.places import placed
from poeflow.version import __version__

PAUSE: Final = 0.2
"""Seconds after the last change of a text until it is checked."""
_IS_FLOW: Final = lazy_pattern(r"(?m)^poeflow[ \t]*:")
_END: Final = lazy_pattern(r"[^\s,\]}]*")
_LEVELS: Final = {
    "error": types.DiagnosticSeverity.Error,
    "warning": types.DiagnosticSeverity.Warning,
}


class FlowServer:
    """The state of a session: what the last check of each flow found, by file.

    Several flows may share a file; it shows what all of them found in it.
    """

    def __init__(self, server: LanguageServer, environ: Mapping[str, str]) -> None:
        self._server = server
        self._environ = environ
        self._found: dict[str, dict[str, list[types.Diagnostic]]] = {}

    async def changed(self, uri: str) -> None:
        """Check a flow once nothing has changed in it for a moment."""
        workspace = self._server.workspace
        version = workspace.get_text_document(uri).version
        await asyncio.sleep(PAUSE)
        is_open = uri in workspace.text_documents
        if is_open and workspace.get_text_document(uri).version == version:
            self.check(uri)

    def check(self, uri: str) -> None:
        """Send the problems of a flow, each to the file it is in."""
        found = self._checkup(uri)
        by_file: dict[str, list[types.Diagnostic]] = {uri: []}
        for problem in found.problems if found is not None else ():
            file, text = uri, found.loaded.document.text if found is not None else ""
            if found is not None and problem.place.path != found.shown:
                path = Path.cwd() / problem.place.path
                file, text = path.as_uri(), ""
            by_file.setdefault(file, []).append(_diagnostic(problem, text))
        before = self._found.get(uri, {})
        self._found[uri] = by_file
        for file in {**before, **by_file}:
            self._publish(file)

    def closed(self, uri: str) -> None:
        """Take back what the check of a flow found."""
        for file in self._found.pop(uri, {}):
            self._publish(file)

    def definition(self, params: types.DefinitionParams) -> types.Location | None:
        """Return where the step, input, alias or file at a place is."""
        uri = params.text_document.uri
        found = self._checkup(uri)
        file = found and (found.loaded.file or found.loaded.draft)
        if found is None or not file:
            return None
        line, column = self._place(uri, params.position)
        named = named_at(file.flow, found.loaded.document, line, column)
        target = definition_of(found, named) if named is not None else None
        if target is None:
            return None
        place = types.Position(target.place.line - 1, target.place.column - 1)
        is_ours = target.file.startswith("//")
        path = found.project.path_of(target.file) if is_ours else Path.cwd() / target.file
        return types.Location(path.as_uri() if target.file else uri, types.Range(place, place))

    async def hover(self, params: types.HoverParams) -> types.Hover | None:
        """Return what the thing at a place is; of a step also how current it is."""
        uri = params.text_document.uri
        found = self._checkup(uri)
        file = found and (found.loaded.file or found.loaded.draft)
        if found is None or not file:
            return None
        line, column = self._place(uri, params.position)
        named = named_at(file.flow, found.loaded.document, line, column)
        if named is None:
            return None
        options = RunOptions(environ=self._environ)
        text = await asyncio.to_thread(explanation, found, named, options)
        return types.Hover(types.MarkupContent(types.MarkupKind.Markdown, text)) if text else None

    def _checkup(self, uri: str) -> Checkup | None:
        """Check a flow as the editor has it; None if it is no flow, or has no place."""
        workspace = self._server.workspace
        text = workspace.get_text_document(uri).source
        path = _path(uri)
        if path is None or _IS_FLOW.search(text) is None:
            return None
        try:
            project, canonical = placed(path)
            edits = {canonical: text.encode("utf-8", "surrogatepass")}
            for other, document in workspace.text_documents.items():
                beside = _path(other)
                if beside is not None and beside.is_relative_to(project.root):
                    name = f"//{beside.relative_to(project.root).as_posix()}"
                    edits[name] = document.source.encode("utf-8", "surrogatepass")
            edited = EditedProject(project.root, edits=edits)
            return checkup(edited, canonical, project.shown(canonical, Path.cwd()))
        except PoeflowError as error:
            self._server.window_log_message(
                types.LogMessageParams(types.MessageType.Error, f"{path}: {error}")
            )
            return None

    def _place(self, uri: str, position: types.Position) -> tuple[int, int]:
        """Return a place as the lines and columns of problems count, which count characters."""
        document = self._server.workspace.get_text_document(uri)
        lines = document.source.split("\n")
        line = lines[position.line] if position.line < len(lines) else ""
        units = line.encode("utf-16-le", "surrogatepass")[: 2 * position.character]
        return position.line + 1, len(units.decode("utf-16-le", "replace")) + 1

    def _publish(self, uri: str) -> None:
        """Send what all flows found in a file, each problem once."""
        found = [one for by_file in self._found.values() for one in by_file.get(uri, ())]
        once = {
            (one.range.start.line, one.range.start.character, one.message): one for one in found
        }
        self._server.text_document_publish_diagnostics(
            types.PublishDiagnosticsParams(uri=uri, diagnostics=list(once.values()))
        )


def serve_editor(environ: Mapping[str, str], stdin: BinaryIO, stdout: BinaryIO) -> None:
    """Serve one editor until it ends the session. Both streams are closed then."""
    server = LanguageServer("poeflow", f"v{__version__}")
    flows = FlowServer(server, environ)

    @server.feature(types.TEXT_DOCUMENT_DID_OPEN)
    def opened(params: types.DidOpenTextDocumentParams) -> None:
        flows.check(params.text_document.uri)

    @server.feature(types.TEXT_DOCUMENT_DID_CHANGE)
    async def changed(params: types.DidChangeTextDocumentParams) -> None:
        await flows.changed(params.text_document.uri)

    @server.feature(types.TEXT_DOCUMENT_DID_SAVE)
    def saved(_params: types.DidSaveTextDocumentParams) -> None:
        for uri in list(server.workspace.text_documents):
            flows.check(uri)

    @server.feature(types.TEXT_DOCUMENT_DID_CLOSE)
    def closed(params: types.DidCloseTextDocumentParams) -> None:
        flows.closed(params.text_document.uri)

    @server.feature(types.TEXT_DOCUMENT_DEFINITION)
    def definition(params: types.DefinitionParams) -> types.Location | None:
        return flows.definition(params)

    @server.feature(types.TEXT_DOCUMENT_HOVER)
    async def hover(params: types.HoverParams) -> types.Hover | None:
        return await flows.hover(params)

    server.start_io(stdin, stdout)


def _path(uri: str) -> Path | None:
    """Return the path of a file's address, None for what is no file."""
    parts = urlsplit(uri)
    return Path(unquote(parts.path)) if parts.scheme == "file" and parts.path else None


def _diagnostic(problem: Problem, text: str) -> types.Diagnostic:
    line, column = problem.place.line - 1, problem.place.column - 1
    lines = text.split("\n")
    written = lines[line] if line < len(lines) else ""
    word = _END.match(written, column)
    end = max(word.end() if word is not None else column, column + 1)
    hint = f"; {problem.hint}" if problem.hint else ""
    return types.Diagnostic(
        range=types.Range(
            types.Position(line, _units(written, column)),
            types.Position(line, _units(written, end)),
        ),
        severity=_LEVELS[problem.level],
        source="poeflow",
        message=f"{problem.message}{hint}",
    )


def _units(line: str, column: int) -> int:
    """Return a column as editors count it, in units of UTF-16."""
    before = len(line[:column].encode("utf-16-le", "surrogatepass")) // 2
    return before + max(column - len(line), 0)
