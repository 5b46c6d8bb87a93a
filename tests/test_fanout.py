"""Work in several processes: whoever ends the command, by whatever signal, ends its workers too."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

PARENT = """
import os, sys, threading
from duologue.corpus.fanout import spread

def work(i):
    sys.stdout.write(f"{os.getpid()}\\n")
    sys.stdout.flush()
    threading.Event().wait(60)

if __name__ == "__main__":
    for _ in spread(work, range(9), workers=2):
        pass
"""


@pytest.mark.skipif(sys.platform == "win32", reason="the signals are those of POSIX")
@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGKILL])
def test_workers_end_when_their_parent_is_killed(tmp_path: Path, how: signal.Signals) -> None:
    file = tmp_path / "work.py"
    file.write_text(PARENT)
    parent = subprocess.Popen([sys.executable, str(file)], stdout=subprocess.PIPE, text=True)
    assert parent.stdout is not None
    workers = [int(parent.stdout.readline()) for _ in range(2)]
    assert len({parent.pid, *workers}) == 3
    parent.send_signal(how)
    try:
        # The workers write to the same pipe: it ends when the last of them has ended.
        parent.communicate(timeout=20)
    except subprocess.TimeoutExpired:
        for pid in workers:
            os.kill(pid, signal.SIGKILL)
        parent.communicate(timeout=20)
        pytest.fail("workers outlived their parent")
    assert parent.returncode == -how
