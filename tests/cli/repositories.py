"""A repository of git with a flow, to be changed and compared."""

import json
import subprocess

FLOW = """\
poeflow: 1
inputs:
  log: {type: file, default: log.md}
defaults: {model: writer}
models:
  writer: {model: Claude-Sonnet-4.5, params: {temperature: 0.2}}
steps:
  summary:
    prompt: |
      Summarize it.
      {% include "parts/tone.md" %}
      {{ read(inputs.log) }}
  notes:
    prompt: "Rewrite: {{ steps.summary.text }}"
    expect: [{max_length: 4000}]
    output: {save: out/notes.md}
  each:
    for_each: [x, y]
    prompt: "{{ item }}"
    output: {save: "out/{{ key }}.md"}
"""


class Repository:
    def __init__(self, desk):
        self.desk = desk
        self.git("init", "-q", "-b", "main")
        desk.write(".gitignore", ".poeflow\nhome\n")
        desk.write("notes.yaml", FLOW)
        desk.write("parts/tone.md", "Be brief. {% include 'more.md' %}\n")
        desk.write("parts/more.md", "No jargon.\n")
        desk.write("log.md", "# 1.0\n")

    def git(self, *words):
        own = ["git", "-c", "user.name=a", "-c", "user.email=a@example.com", *words]
        done = subprocess.run(
            own, cwd=self.desk.folder, env=self.desk.env(), check=True, capture_output=True
        )
        return done.stdout.decode().strip()

    def commit(self, *, runs=True):
        if runs:
            done = self.desk.run("run", "notes.yaml")
            assert done.returncode == 0, done.stderr
        self.git("add", "-A")
        self.git("commit", "-q", "--allow-empty", "-m", "x")

    def edit(self, name, old, new):
        path = self.desk.folder / name
        assert old in path.read_text()
        path.write_text(path.read_text().replace(old, new))

    def compared(self, *arguments):
        done = self.desk.run("diff", *arguments, "--output", "json")
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    def causes(self, *arguments):
        """Return the kind and name of each cause, and what each step follows."""
        found = {}
        for flow in self.compared(*arguments)["flows"]:
            for step in flow["steps"]:
                causes = [f"{cause['kind']} {cause['name']}" for cause in step["causes"]]
                found[step["id"]] = causes, step["follows"]
        return found
