"""What the action `poeflow` does in a job. The inputs of action.yml are environment variables.

It needs Python, git and poeflow, and nothing else.
"""

import base64
import json
import os
import shlex
import subprocess
import sys
from collections.abc import Iterator, Mapping
from glob import glob, has_magic
from pathlib import Path
from typing import Any
from urllib.error import HTTPError, URLError
from urllib.request import Request, urlopen

MARK = "<!-- poeflow diff -->"
"""The first line of what `poeflow diff` writes: by it the comment is found again."""
TRAILER = "Made-by: poeflow"
"""The last line of a commit of this action: on such a commit it does not run again."""
AUTHOR = ("github-actions[bot]", "41898282+github-actions[bot]@users.noreply.github.com")
CONFLICT = "<<<<<<<"
"""What a line begins with where a merge was not resolved."""
STALE = 4
"""The exit code of poeflow if something is not current."""
PAGE = 100
TIMEOUT = 30.0


class StopError(Exception):
    """Ends the job with a message and an exit code."""

    def __init__(self, message: str, code: int = 1) -> None:
        super().__init__(message)
        self.code = code


def main() -> int:
    modes = {"check": check, "comment": comment, "locked": locked, "run": run}
    mode = modes.get(os.environ["MODE"])
    if mode is None:
        return failed(f"mode is one of {', '.join(modes)}", 2)
    try:
        return mode()
    except StopError as stop:
        return failed(str(stop), stop.code)
    except URLError as error:  # also an HTTPError
        return failed(f"GitHub did not answer as it should: {error}", 1)


def failed(message: str, code: int) -> int:
    """Annotate the job with an error; return its exit code."""
    print(f"::error title=poeflow::{escaped(message)}")
    return code


def check() -> int:
    code = poeflow("check", "--output", "github", *flows())
    return report_conflicts("error") or code if code in (0, STALE) else code


def locked() -> int:
    named = named_flows()
    report_conflicts("error")
    return poeflow("run", "--locked", "--output", "github", *named)


def comment() -> int:
    """Write one comment on the pull request, or update it. Fails only if poeflow does."""
    event = read_event()
    pull = event.get("pull_request")
    if not isinstance(pull, dict):
        raise StopError("mode comment needs the event pull_request", 2)
    base = str(pull["base"]["sha"])
    depth = ["--depth=1"] if git("rev-parse", "--is-shallow-repository") == "true" else []
    git_remote("fetch", "--quiet", *depth, "origin", base)
    shown = subprocess.run(
        ["poeflow", "diff", "--since", base, "--output", "markdown"],
        check=False,
        stdout=subprocess.PIPE,
        text=True,
        env=environment(),
    )
    if shown.returncode:
        return shown.returncode
    write_summary(shown.stdout)
    try:
        place = post_comment(int(pull["number"]), shown.stdout)
    except HTTPError as error:
        if error.code not in (401, 403, 404):
            raise StopError(f"the comment was refused: {error}") from None
        # A pull request from a fork: its token may only read.
        print("::notice title=poeflow::this token may not comment; see the summary of the job")
        return 0
    print(f"commented: {place}")
    return 0


def post_comment(number: int, body: str) -> str:
    """Update the comment of an earlier run, or write one; return its address."""
    for one in pages(f"issues/{number}/comments"):
        if str(one.get("body", "")).startswith(MARK) and one["user"]["type"] == "Bot":
            return str(api("PATCH", f"issues/comments/{one['id']}", {"body": body})["html_url"])
    return str(api("POST", f"issues/{number}/comments", {"body": body})["html_url"])


def run() -> int:
    """Run the flows, and deliver what changed: also the files of a run that failed halfway."""
    if os.environ["DELIVER"] not in ("commit", "pull-request"):
        raise StopError("deliver is commit or pull-request", 2)
    named = named_flows()
    is_push = os.environ["GITHUB_EVENT_NAME"] == "push"
    if is_push and TRAILER in git("log", "-1", "--format=%B").splitlines():
        print("::notice title=poeflow::the last commit is one of this action; nothing to do")
        write_output("changed", "false")
        return 0
    if git("status", "--porcelain"):
        raise StopError(
            "there are changes that are not committed; run poeflow in a clean checkout", 2
        )
    mend(named)
    fetch_prices()
    code = poeflow("run", "--output", "github", *shlex.split(os.environ["ARGUMENTS"]), *named)
    git("add", "--all")
    files = git("diff", "--cached", "--name-only").splitlines()
    write_output("changed", "true" if files else "false")
    if files:
        deliver(files)
    return code


def report_conflicts(level: str) -> int:
    """Annotate the locks with conflict marks; return the exit code for that."""
    found = conflicts()
    for lock, line in found.items():
        message = "this lock has conflict marks; poeflow lock fill mends it, then commit it"
        print(f"::{level} file={escaped_value(lock)},line={line},title=poeflow::{message}")
    return STALE if found else 0


def conflicts() -> dict[str, int]:
    """Return the tracked locks of poeflow with conflict marks, each with the line of the first."""
    found: dict[str, int] = {}
    for name in git("ls-files", "-z", "--", "*.lock.json").split("\0"):
        try:
            text = Path(name).read_text(encoding="utf-8", errors="replace") if name else ""
        except OSError:
            continue
        lines = text.splitlines()
        marks = [at for at, line in enumerate(lines, 1) if line.startswith(CONFLICT)]
        if marks and '"poeflow_lock"' in text:
            found[name] = marks[0]
    return found


def mend(named: list[str]) -> None:
    """Bring the locks with conflict marks of some flows, or folders, back in order.

    It asks for nothing. What it cannot prove is left for the run.
    """
    waiting = [
        flow
        for lock in conflicts()
        for end in (".yaml", ".yml")
        if Path(flow := lock.removesuffix(".lock.json") + end).is_file()
    ]
    folders = [Path(name) for name in named]
    chosen = [flow for flow in waiting if any(Path(flow).is_relative_to(one) for one in folders)]
    if chosen:
        poeflow("lock", "fill", *chosen)
    report_conflicts("warning")


def fetch_prices() -> None:
    """Fetch the list of models and prices, without which no cost is limited, if there is none."""
    subprocess.run(["poeflow", "models"], check=False, stdout=subprocess.DEVNULL, env=environment())


def deliver(files: list[str]) -> None:
    """Commit the staged files, then push them or open a pull request with them."""
    base, branch = os.environ["GITHUB_REF_NAME"], os.environ["BRANCH"]
    title = "Update the outputs of the flows"
    by = ["-c", f"user.name={AUTHOR[0]}", "-c", f"user.email={AUTHOR[1]}"]
    git(*by, "commit", "--quiet", "-m", f"{title}\n\n{TRAILER}")
    if os.environ["DELIVER"] == "commit":
        git_remote("push", "--quiet", "origin", f"HEAD:refs/heads/{base}")
        print(f"pushed {len(files)} files to {base}")
        return
    git_remote("push", "--quiet", "origin", f"+HEAD:refs/heads/{branch}")
    owner = os.environ["GITHUB_REPOSITORY"].partition("/")[0]
    body = f"`poeflow run` changed {len(files)} files."
    given = {"title": title, "head": branch, "base": base, "body": body}
    try:
        found = api("GET", f"pulls?state=open&head={owner}:{branch}&base={base}")
        place = str((found[0] if found else api("POST", "pulls", given))["html_url"])
    except HTTPError as error:
        message = f"the files are on the branch {branch}, and no pull request was opened: {error}"
        if error.code in (401, 403):
            message += "; allow GitHub Actions to create them, in the settings of the repository"
        raise StopError(message) from None
    write_output("pull-request", place)
    print(f"pull request: {place}")


def poeflow(*arguments: str) -> int:
    """Run poeflow; return its exit code."""
    return subprocess.run(["poeflow", *arguments], check=False, env=environment()).returncode


def environment() -> dict[str, str]:
    """Return the environment of poeflow: without the token."""
    return {name: value for name, value in os.environ.items() if name != "TOKEN"}


def flows() -> list[str]:
    """Return the flows that are named, a glob as the flows among the files that it matches."""
    found: list[str] = []
    for word in shlex.split(os.environ["FLOWS"]):
        if has_magic(word):
            found += filter(is_flow, sorted(glob(word, recursive=True)))
        else:
            found.append(word)
    return found


def is_flow(path: str) -> bool:
    """Return whether a file has the key that each flow begins with."""
    try:
        text = Path(path).read_text(encoding="utf-8", errors="replace")
    except OSError:
        return False
    return any(line.startswith("poeflow:") for line in text.splitlines())


def named_flows() -> list[str]:
    found = flows()
    if not found:
        raise StopError(f"mode {os.environ['MODE']} found no flows; name them, as flows/*.yaml", 2)
    return found


def git(*arguments: str, settings: Mapping[str, str] | None = None) -> str:
    """Run git without the key and the token; return what it prints. Raises `StopError`."""
    secret = ("TOKEN", "POE_API_KEY")
    safe = {name: value for name, value in os.environ.items() if name not in secret}
    done = subprocess.run(
        ["git", *arguments],
        check=False,
        capture_output=True,
        text=True,
        env=safe | (settings or {}),
    )
    if done.returncode:
        raise StopError(f"git {arguments[0]}: {done.stderr.strip() or done.stdout.strip()}")
    return done.stdout.strip()


def git_remote(*arguments: str) -> None:
    """Run git with the token, which no command line and no file gets. Raises `StopError`."""
    server = os.environ["GITHUB_SERVER_URL"]
    word = base64.b64encode(f"x-access-token:{os.environ['TOKEN']}".encode()).decode()
    header = f"http.{server}/.extraheader"
    values = ("", f"AUTHORIZATION: basic {word}")  # the checkout may have stored another one
    settings = {"GIT_CONFIG_COUNT": "2"}
    for number, value in enumerate(values):
        settings |= {f"GIT_CONFIG_KEY_{number}": header, f"GIT_CONFIG_VALUE_{number}": value}
    git(*arguments, settings=settings)


def pages(path: str) -> Iterator[dict[str, Any]]:
    """Yield all items of a list of the API."""
    page = 1
    while True:
        found = api("GET", f"{path}?per_page={PAGE}&page={page}")
        yield from found
        if len(found) < PAGE:
            return
        page += 1


def api(method: str, path: str, given: dict[str, str] | None = None) -> Any:
    """Ask GitHub's REST API about this repository: https://docs.github.com/rest."""
    address = f"{os.environ['GITHUB_API_URL']}/repos/{os.environ['GITHUB_REPOSITORY']}/{path}"
    request = Request(address, method=method)
    request.add_header("Accept", "application/vnd.github+json")
    request.add_header("Authorization", f"Bearer {os.environ['TOKEN']}")
    request.add_header("X-GitHub-Api-Version", "2022-11-28")
    data = None if given is None else json.dumps(given).encode()
    with urlopen(request, data, TIMEOUT) as answer:
        return json.load(answer)


def read_event() -> dict[str, Any]:
    event: dict[str, Any] = json.loads(Path(os.environ["GITHUB_EVENT_PATH"]).read_text("utf-8"))
    return event


def write_output(name: str, value: str) -> None:
    with Path(os.environ["GITHUB_OUTPUT"]).open("a", encoding="utf-8") as file:
        file.write(f"{name}={value}\n")


def write_summary(text: str) -> None:
    with Path(os.environ["GITHUB_STEP_SUMMARY"]).open("a", encoding="utf-8") as file:
        file.write(text + "\n")


def escaped(text: str) -> str:
    """Return a text as the value of a workflow command."""
    return text.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")


def escaped_value(text: str) -> str:
    """Return a text as the value of a property of a workflow command."""
    return escaped(text).replace(":", "%3A").replace(",", "%2C")


if __name__ == "__main__":
    sys.exit(main())
