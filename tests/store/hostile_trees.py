"""Trees of files that try to have git run a program: one function for each way there is.

Each takes a `Trap` in an ordinary repository, and changes what lies there. The program leaves a
file outside of it.
"""

import os
import shutil
import subprocess
import textwrap
from dataclasses import dataclass
from pathlib import Path

FLOW = "poeflow: 1\nsteps:\n  a: {render: hello, output: {save: out/a.md}}\n"


@dataclass
class Trap:
    """`tree` is the top of a repository, `project` where poeflow runs, `program` what must not."""

    tree: Path
    project: Path
    program: Path
    ran: Path
    environ: dict[str, str]

    @classmethod
    def set_in(cls, folder: Path) -> "Trap":
        tree, ran, program = folder / "tree", folder / "ran", folder / "program"
        program.write_text(f"#!/bin/sh\nenv >>{ran}\necho $0 $* >>{ran}\ncat\nexit 0\n")
        program.chmod(0o755)
        (folder / "home").mkdir()
        tree.mkdir()
        environ = {"PATH": os.environ["PATH"], "HOME": str(folder / "home")}
        trap = cls(tree, tree, program, ran, environ)
        trap.git("init", "-q", "-b", "main")
        trap.write("poeflow.toml", "")
        trap.write("a.yaml", FLOW)
        for text in ("one\n", "two\n"):
            trap.write("a.md", text)
            trap.git("add", ".")
            trap.git("commit", "-qm", text)
        trap.write("a.md", "six\n")
        return trap

    def git(self, *words: str, folder: Path | None = None) -> str:
        who = ("-c", "user.name=a", "-c", "user.email=a@example.com")
        done = subprocess.run(
            ["git", *who, *words],
            cwd=folder or self.tree,
            env=self.environ,
            check=True,
            capture_output=True,
            text=True,
        )
        return done.stdout.strip()

    def write(self, name: str, text: str) -> Path:
        path = self.tree / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(textwrap.dedent(text))
        return path

    def configure(self, text: str) -> None:
        with (self.tree / ".git/config").open("a") as file:
            file.write(textwrap.dedent(text).replace("PROGRAM", str(self.program)))


def filter_clean(trap):
    trap.configure('[filter "evil"]\n\tclean = PROGRAM\n')
    trap.write(".gitattributes", "* filter=evil\n")


def filter_process(trap):
    trap.configure('[filter "evil"]\n\tprocess = PROGRAM\n\trequired = true\n')
    trap.write(".gitattributes", "* filter=evil\n")


def filter_of_info_attributes(trap):
    trap.configure('[filter "evil"]\n\tclean = PROGRAM\n')
    trap.write(".git/info/attributes", "* filter=evil\n")


def filter_of_attributes_file(trap):
    file = trap.write("attributes", "* filter=evil\n")
    trap.configure(f'[filter "evil"]\n\tclean = PROGRAM\n[core]\n\tattributesFile = {file}\n')


def included_configuration(trap):
    trap.write("more", f'[filter "evil"]\n\tclean = {trap.program}\n')
    trap.configure("[include]\n\tpath = ../more\n")
    trap.write(".gitattributes", "* filter=evil\n")


def included_if(trap):
    trap.write("more", f'[filter "evil"]\n\tclean = {trap.program}\n')
    trap.configure('[includeIf "gitdir:**"]\n\tpath = ../more\n')
    trap.write(".gitattributes", "* filter=evil\n")


def configuration_of_a_work_tree(trap):
    trap.configure("[core]\n\trepositoryformatversion = 1\n[extensions]\n\tworktreeConfig = true\n")
    trap.write(".git/config.worktree", f'[filter "evil"]\n\tclean = {trap.program}\n')
    trap.write(".gitattributes", "* filter=evil\n")


def fsmonitor(trap):
    trap.configure("[core]\n\tfsmonitor = PROGRAM\n")


def fsmonitor_in_the_index(trap):
    trap.git("update-index", "--fsmonitor")
    trap.configure("[core]\n\tfsmonitor = PROGRAM\n\tfsmonitorHookVersion = 1\n")


def hooks(trap):
    trap.configure("[core]\n\thooksPath = hooks\n")
    for name in ("post-index-change", "fsmonitor-watchman", "reference-transaction", "pre-commit"):
        for folder in ("hooks", ".git/hooks"):
            trap.write(f"{folder}/{name}", f"#!/bin/sh\n{trap.program}\n").chmod(0o755)
    os.utime(trap.tree / "a.yaml", (1, 1))  # the index is written anew


def _without_objects(trap, remote):
    """Leave nothing but HEAD in the repository, and a remote that has what is missing."""
    shutil.rmtree(trap.tree / ".git/objects")
    (trap.tree / ".git/objects").mkdir()
    trap.configure("[core]\n\trepositoryformatversion = 1\n[extensions]\n\tpartialClone = origin\n")
    trap.configure(f'[remote "origin"]\n\tpromisor = true\n{remote}')


def lazy_fetch_by_ssh(trap):
    _without_objects(trap, "\turl = ssh://x/y\n[core]\n\tsshCommand = PROGRAM\n")


def lazy_fetch_by_upload_pack(trap):
    _without_objects(trap, "\turl = .\n\tuploadpack = PROGRAM\n")


def lazy_fetch_by_ext(trap):
    _without_objects(trap, '\turl = "ext::PROGRAM"\n[protocol "ext"]\n\tallow = always\n')


def lazy_fetch_by_proxy(trap):
    _without_objects(trap, "\turl = git://127.0.0.1:1/x\n[core]\n\tgitProxy = PROGRAM\n")


def alternate_that_promises(trap):
    _without_objects(trap, "\turl = .\n\tuploadpack = PROGRAM\n")
    trap.write(".git/objects/info/alternates", "../../more/objects\n")
    trap.write("more/objects/pack/pack-x.promisor", "")


def every_driver_and_pager(trap):
    trap.configure(
        """
        [diff]
        \texternal = PROGRAM
        [diff "evil"]
        \ttextconv = PROGRAM
        \tcommand = PROGRAM
        [merge "evil"]
        \tdriver = PROGRAM
        [core]
        \tpager = PROGRAM
        \teditor = PROGRAM
        \talternateRefsCommand = PROGRAM
        [pager]
        \tstatus = PROGRAM
        \tls-files = PROGRAM
        [credential]
        \thelper = PROGRAM
        [gpg]
        \tprogram = PROGRAM
        [log]
        \tshowSignature = true
        [uploadpack]
        \tpackObjectsHook = PROGRAM
        """
    )
    for command in ("status", "ls-files", "rev-list", "cat-file", "check-attr", "merge-file"):
        trap.configure(f"[alias]\n\t{command} = !PROGRAM\n")
    trap.write(".gitattributes", "* diff=evil merge=evil\n")


def submodule(trap):
    inner = trap.tree / "inner"
    inner.mkdir()
    trap.git("init", "-q", folder=inner)
    trap.git("commit", "-qm", "x", "--allow-empty", folder=inner)
    trap.git("-c", "advice.addEmbeddedRepo=false", "add", "inner")
    trap.write(".gitmodules", '[submodule "inner"]\n\tpath = inner\n\turl = ./inner\n')
    with (inner / ".git/config").open("a") as file:
        file.write(
            f'[core]\n\tfsmonitor = {trap.program}\n[filter "evil"]\n\tclean = {trap.program}\n'
        )
    trap.write("inner/.gitattributes", "* filter=evil\n")
    trap.configure("[status]\n\tsubmoduleSummary = true\n[diff]\n\tsubmodule = diff\n")


def bare_repository_in_a_clone(trap):
    """A subfolder that was committed, and is a repository by the names of its files."""
    demo = trap.tree / "demo"
    demo.mkdir()
    trap.git("init", "-q", folder=demo)
    for name, text in {
        "a.yaml": FLOW,
        "poeflow.toml": "",
        ".gitattributes": "* filter=evil\n",
    }.items():
        (demo / name).write_text(text)
    trap.git("add", ".", folder=demo)
    trap.git("commit", "-qm", "x", folder=demo)
    for name in ("HEAD", "index", "objects", "refs"):
        shutil.move(demo / ".git" / name, demo / name)
    (demo / "refs/x").touch()
    shutil.rmtree(demo / ".git")
    core = "[core]\n\trepositoryformatversion = 0\n\tbare = false\n\tworktree = .\n"
    (demo / "config").write_text(f'{core}[filter "evil"]\n\tclean = {trap.program}\n')
    trap.git("add", ".")
    trap.git("commit", "-qm", "y")
    clone = trap.tree.parent / "clone"
    trap.git("clone", "-q", "--no-local", str(trap.tree), str(clone))
    trap.tree, trap.project = clone, clone / "demo"


def bare_repository_that_a_flow_made(trap):
    shutil.rmtree(trap.tree / ".git")
    trap.write("HEAD", "ref: refs/heads/main\n")
    trap.write("refs/heads/main", f"{'1' * 40}\n")
    trap.write("objects/x", "")
    trap.write(
        "config",
        f"""
        [core]
        \trepositoryformatversion = 1
        \tbare = false
        \tworktree = .
        \tsshCommand = {trap.program}
        [extensions]
        \tpartialClone = origin
        [remote "origin"]
        \turl = ssh://x/y
        \tpromisor = true
        """,
    )


def git_file_that_leads_elsewhere(trap):
    filter_clean(trap)
    shutil.move(trap.tree / ".git", trap.tree / "elsewhere")
    trap.write(".git", "gitdir: elsewhere\n")


def git_link_that_leads_elsewhere(trap):
    filter_clean(trap)
    shutil.move(trap.tree / ".git", trap.tree / "elsewhere")
    (trap.tree / ".git").symlink_to("elsewhere")


def common_folder_elsewhere(trap):
    filter_clean(trap)
    shutil.move(trap.tree / ".git", trap.tree / "elsewhere")
    trap.write(".git", "gitdir: linked\n")
    for name in ("HEAD", "index"):
        (trap.tree / "linked").mkdir(exist_ok=True)
        shutil.copy2(trap.tree / "elsewhere" / name, trap.tree / "linked" / name)
    trap.write("linked/commondir", "../elsewhere\n")


def program_in_the_current_folder(trap):
    shutil.copy2(trap.program, trap.tree / "git")
    trap.environ["PATH"] = f":.:{trap.environ['PATH']}"


def program_in_the_tree(trap):
    shutil.copy2(trap.program, trap.write("bin/git", ""))
    trap.environ["PATH"] = f"{trap.tree / 'bin'}:{trap.environ['PATH']}"


def helper_in_the_tree(trap):
    shutil.copy2(trap.program, trap.write("git-remote-evil", ""))
    trap.environ["PATH"] = f"{trap.environ['PATH']}:{trap.tree}"
    _without_objects(trap, "\turl = evil::x\n")


ATTACKS = (
    alternate_that_promises,
    bare_repository_in_a_clone,
    bare_repository_that_a_flow_made,
    common_folder_elsewhere,
    configuration_of_a_work_tree,
    every_driver_and_pager,
    filter_clean,
    filter_of_attributes_file,
    filter_of_info_attributes,
    filter_process,
    fsmonitor,
    fsmonitor_in_the_index,
    git_file_that_leads_elsewhere,
    git_link_that_leads_elsewhere,
    helper_in_the_tree,
    hooks,
    included_configuration,
    included_if,
    lazy_fetch_by_ext,
    lazy_fetch_by_proxy,
    lazy_fetch_by_ssh,
    lazy_fetch_by_upload_pack,
    program_in_the_current_folder,
    program_in_the_tree,
    submodule,
)
