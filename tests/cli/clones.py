"""A repository with one flow, and fresh clones of it: lock and outputs without `.poeflow`."""

import dataclasses
import json
import subprocess

SCRIPT = """\
simulator: 1
rules:
  - {match: {text: facts}, answer: {template: '{"n": {{ nth }}}'}}
  - {match: {text: word}, answer: {text: b}}
  - {match: {model: GPT-5.2}, answer: {template: "[{{ nth }}] {{ prompt }}"}}
"""
"""A model that answers otherwise each time."""


class Origin:
    """The repository at a desk, whose flow has run. `clone` makes the desk of a fresh clone."""

    def __init__(self, desk, simulator, clones, flow):
        self.desk = desk
        self.simulator = simulator
        self._clones = clones
        desk.write(".gitignore", "home/\n.poeflow/\n")
        desk.write("a.yaml", flow)
        self.git(desk, "init", "-q", "-b", "main")
        self.run()
        self.commit()

    def git(self, desk, *words):
        own = ["git", "-c", "user.name=a", "-c", "user.email=a@example.com", *words]
        subprocess.run(own, cwd=desk.folder, env=desk.env(), check=True, capture_output=True)

    def run(self, *words):
        done = self.desk.run(*(words or ("run", "a.yaml")))
        assert done.returncode == 0, done.stderr

    def commit(self):
        self.git(self.desk, "add", "-A")
        self.git(self.desk, "commit", "-q", "-m", "x")

    def clone(self):
        folder = self._clones / f"clone{len(list(self._clones.iterdir()))}"
        self.git(self.desk, "clone", "-q", ".", str(folder))
        return Clone(dataclasses.replace(self.desk, folder=folder), self)


class Clone:
    """A fresh clone: nothing but what git has."""

    def __init__(self, desk, origin):
        self.desk = desk
        self._origin = origin
        self._before = self._sent()

    @property
    def asked(self):
        """How many models were asked since it was made."""
        return self._sent() - self._before

    def _sent(self):
        return sum(one.json is not None for one in self._origin.simulator.requests)

    def __call__(self, *words):
        """Return the exit code and the words of a command for the flow, with all it says."""
        done = self.desk.run(*words, "a.yaml")
        return done.returncode, done.stdout + done.stderr

    def git(self, *words):
        self._origin.git(self.desk, *words)

    def text(self, name):
        return (self.desk.folder / name).read_text()

    def write(self, name, text):
        self.desk.write(name, text)

    def edit(self, name, old, new):
        text = self.text(name)
        assert old in text
        self.write(name, text.replace(old, new))

    def states(self):
        """Return the state of each instance and the reasons, by its name."""
        code, said = self("plan", "--output", "json")
        assert code == 0, said
        return {one["id"]: (one["state"], one["reasons"]) for one in json.loads(said)}
