"""`poeflow watch --view`: pages that follow the session."""

import re
import signal
import subprocess
import urllib.request


def test_a_session_serves_its_runs(online):
    online.write("a.yaml", "poeflow: 1\nsteps: {say: {prompt: hi, model: GPT-5.2}}\n")
    watching = subprocess.Popen(
        online.command("watch", "a.yaml", "--view"),
        cwd=online.folder,
        env=online.env(),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    assert watching.stdout is not None
    with watching.stdout as lines:
        address = next(found[1] for line in lines if (found := re.match(r"pages at (\S+)", line)))
        assert any(line.startswith("1 asked in ") for line in lines)
        with urllib.request.urlopen(address, timeout=10) as page:
            assert ">a</a>" in page.read().decode()
        watching.send_signal(signal.SIGINT)
        lines.read()
    assert watching.wait(timeout=10) == 130
