"""`duologue serve`: unsafe options are refused, and the process ends as it should."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import urllib.request
from pathlib import Path

import pytest

from duologue.cli import main
from duologue.serve.command import ServeConfig, make_service


@pytest.mark.parametrize(
    ("options", "named"),
    [
        (["--host", "0.0.0.0"], "--host: 0.0.0.0 can be reached by others; set DUOLOGUE_TOKEN"),
        (["--host", "0.0.0.0", "--token", "x"], "--origins https://talk.example.org"),
        (["--host", "example.org", "--origins", "https://a.org"], "can be reached by others"),
        (["--slots", "0"], "--slots: 0 is not 1 or more"),
        (["--buffer-ms", "10"], "--buffer-ms: 10.0 is not 80 or more"),
        (["--seconds", "nan"], "--seconds: nan"),
        (["--port", "70000"], "--port: 70000 is no port"),
        (["--certificate", "x.pem"], "--certificate: is not enough without --key"),
        (["--certificate", "x.pem", "--key", "y.pem"], "cannot be used: No such file"),
    ],
)
def test_what_is_unsafe_or_out_of_range_is_refused(
    options: list[str], named: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("DUOLOGUE_TOKEN", raising=False)
    assert main(["serve", *options]) == 2
    assert named in capsys.readouterr().err


def test_the_token_comes_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DUOLOGUE_TOKEN", "secret")
    service = make_service(ServeConfig(host="0.0.0.0", origins=("https://a.org/",)))
    assert service.guard.token == "secret"
    assert (service.guard.origins, service.guard.local, service.uploads) == (("https://a.org",), False, False)


def test_help_imports_neither_torch_nor_aiohttp() -> None:
    code = (
        "import sys\nfrom duologue.cli import main\nfor verb in ('serve', 'talk'): main([verb, '--help'])\n"
        "assert not {'torch', 'aiohttp', 'prometheus_client', 'sphn'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, timeout=60)


def test_it_says_where_it_is_and_ends_with_0_when_told(tmp_path: Path) -> None:
    code = "import sys; from duologue.cli import main; sys.exit(main())"
    options = [
        "--model",
        "random:tiny",
        "--port",
        "0",
        "--device",
        "cpu",
        "--drain",
        "1",
        "--json",
        str(tmp_path / "x.json"),
    ]
    with subprocess.Popen(
        [sys.executable, "-c", code, "serve", *options], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        line = process.stdout.readline()
        assert line.startswith("duologue serves random:tiny to 2 at once at http://localhost:")
        url = line.split()[-1]
        told = json.loads((tmp_path / "x.json").read_text())
        assert told == {"url": url, "model": "random:tiny", "slots": 2}
        with urllib.request.urlopen(f"{url}/api/info", timeout=10) as answer:
            assert json.load(answer)["slots"] == 2
        process.send_signal(signal.SIGTERM)
        out, err = process.communicate(timeout=60)
        assert process.returncode == 0, err
        assert "stopping" in out


def test_a_port_that_is_taken_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    import socket

    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        assert main(["serve", "--model", "random:tiny", "--host", "127.0.0.1", "--port", str(port)]) == 2
    assert f"cannot listen on 127.0.0.1:{port}" in capsys.readouterr().err


def test_a_model_that_is_not_there_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["serve", "--model", "random:nothing", "--port", "0"]) == 2
    assert "'nothing' is no preset" in capsys.readouterr().err
