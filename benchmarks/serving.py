"""Serving: how late frames are, how long an answer takes, memory; and a soak with clients that misbehave.

    python benchmarks/serving.py [--json FILE]       conversations in real time: one, and as many as there are slots
    python benchmarks/serving.py --memory MINUTES    one conversation of so long: does the server grow?
    python benchmarks/serving.py --soak MINUTES      20 clients that come, stall, send garbage, and die

The server is `duologue serve` in a process of its own on this machine; clients send noise that comes and goes in real
time over the loopback. All times are a client's:

* lateness of a frame: when it came, after the regular beat of the earliest (one frame each 80 ms);
* added latency: from the moment the last sample of a frame of sound was sent until the first sound that it can change
  is there (what the same call of the engine gives), whatever the server waits, computes and encodes between. A talk
  over a line without delay has 80 ms more: the frame had to be spoken first;
* to first sound: from connecting until the first sound came, which the server gives for the client's first frame.

The soak records every talk as the model was given it, plays some of these recordings to the engine alone, and compares:
what another client did must not be heard in them.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import random
import signal
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from duologue.base.errors import UserError
from duologue.base.files import write_json
from duologue.client.connection import Connection, Ended, Meta, Sound, connect
from duologue.client.sound import Samples
from duologue.client.wire import Kind, build
from made import made

FRAME, PERIOD = 1920, 0.08
CLIENTS = 20
COMPARED = 6
"""Recordings that are played to the engine alone."""


@dataclass
class Server:
    """A server in a process of its own."""

    process: subprocess.Popen[str]
    url: str

    def status(self, name: str) -> int:
        """A number of /proc/PID/status, such as VmRSS in kB."""
        lines = Path(f"/proc/{self.process.pid}/status").read_text().splitlines()
        return next(int(line.split()[1]) for line in lines if line.startswith(f"{name}:"))

    def files(self) -> int:
        """Open files."""
        return len(list(Path(f"/proc/{self.process.pid}/fd").iterdir()))

    def metric(self, name: str) -> float:
        """A number of /metrics."""
        with urllib.request.urlopen(f"{self.url}/metrics", timeout=10) as answer:
            lines = answer.read().decode().splitlines()
        return next(float(line.split()[-1]) for line in lines if line.startswith(f"{name} "))


@contextmanager
def serve(*options: str) -> Iterator[Server]:
    """Run `duologue serve` on a free port of this machine."""
    code = "import sys; from duologue.cli import main; sys.exit(main())"
    command = [sys.executable, "-c", code, "serve", "--port", "0", "--drain", "1", *options]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        line = process.stdout.readline()
        if not line:
            raise SystemExit("the server did not begin")
        try:
            yield Server(process, line.split()[-1])
        finally:
            process.terminate()
            try:
                process.wait(30)
            except subprocess.TimeoutExpired:
                process.send_signal(signal.SIGABRT)  # with PYTHONFAULTHANDLER=1 it tells where it hangs
                raise SystemExit("the server did not end when told") from None
    if process.returncode:
        raise SystemExit(f"the server ended with {process.returncode}")


@dataclass
class Heard:
    """What one client saw; times in seconds of its clock."""

    first: float = 0.0
    sent: list[float] = field(default_factory=list)
    came: list[float] = field(default_factory=list)
    shift: list[int] = field(default_factory=list)
    """Of each frame that came: frames of silence that had been put before it, as far as was told."""
    stats: dict[str, float] = field(default_factory=dict)

    def late(self) -> list[float]:
        """Of each frame, in ms."""
        beat = [at - n * PERIOD for n, at in enumerate(self.came)]
        return [1000 * (at - min(beat)) for at in beat]

    def added(self) -> list[float]:
        """Latency of each frame that was sent, in ms."""
        pairs = [(n - shift, at) for n, (at, shift) in enumerate(zip(self.came, self.shift, strict=True))]
        return [1000 * (at - self.sent[n]) for n, at in pairs if 0 <= n < len(self.sent)]


def voice(frames: int, seed: int) -> Samples:
    """Noise that comes and goes, a little like talk."""
    rng = np.random.default_rng(seed)
    loud = np.repeat(rng.random(frames) < 0.4, FRAME)
    return (0.1 * loud * rng.standard_normal(frames * FRAME)).astype(np.float32)


async def converse(url: str, frames: int, seed: int, format: str, delay: float) -> Heard:
    """Talk in real time."""
    loop, heard = asyncio.get_running_loop(), Heard()
    await asyncio.sleep(delay)
    begun = loop.time()
    async with connect(url, {"seed": str(seed), "format": format}) as line:
        speaking = asyncio.create_task(say(line, voice(frames, seed), heard.sent))
        starved = 0
        while len(heard.came) < frames:
            event = await line.receive()
            if isinstance(event, Sound):
                heard.first = heard.first or event.at - begun
                heard.came.append(event.at)
                heard.shift.append(starved)
            elif isinstance(event, Meta) and event.value["type"] == "stats":
                heard.stats = event.value
                starved = round((event.value["starved_ms"] - event.value["dropped_ms"]) / 1000 / PERIOD)
        speaking.cancel()
        with contextlib.suppress(asyncio.CancelledError, Ended):
            await speaking
    return heard


async def say(line: Connection, sound: Samples, sent: list[float], speed: float = 1.0) -> None:
    loop = asyncio.get_running_loop()
    begun = loop.time()
    for n in range(len(sound) // FRAME):
        await line.say(sound[n * FRAME : (n + 1) * FRAME])
        sent.append(loop.time())
        await asyncio.sleep(max(0.0, begun + (n + 1) * PERIOD / speed - loop.time()))
    while True:  # silence, until enough was heard
        await line.say(np.zeros(FRAME, np.float32))
        await asyncio.sleep(PERIOD)


def measure(server: Server, clients: int, seconds: float, format: str) -> dict[str, object]:
    """Conversations at once."""

    memory: list[float] = []

    async def watch() -> None:
        while True:
            await asyncio.sleep(60)
            memory.append(server.status("VmRSS") / 1024)
            print(f"{len(memory)} min: {memory[-1]:.0f} MB", file=sys.stderr, flush=True)

    async def run() -> list[Heard]:
        watching = asyncio.create_task(watch())
        talks = (converse(server.url, round(seconds / PERIOD), n, format, 0.37 * n) for n in range(clients))
        heard = await asyncio.gather(*talks)
        watching.cancel()
        return heard

    steps, busy = (server.metric(f"duologue_step_seconds_{part}") for part in ("count", "sum"))
    heard = asyncio.run(run())
    steps = server.metric("duologue_step_seconds_count") - steps
    busy = server.metric("duologue_step_seconds_sum") - busy
    late = np.concatenate([h.late() for h in heard])
    added = np.concatenate([h.added() for h in heard])
    row: dict[str, object] = {
        "clients": clients, "format": format, "seconds": seconds,
        "late_p50_ms": float(np.percentile(late, 50)), "late_p99_ms": float(np.percentile(late, 99)),
        "late_worst_ms": float(late.max()),
        "added_p50_ms": float(np.percentile(added, 50)), "added_p95_ms": float(np.percentile(added, 95)),
        "first_sound_ms": 1000 * float(np.median([h.first for h in heard])),
        "step_ms": 1000 * busy / max(steps, 1),
        "starved_ms": sum(h.stats.get("starved_ms", 0) for h in heard),
        "dropped_ms": sum(h.stats.get("dropped_ms", 0) for h in heard),
        "memory_mb": server.status("VmRSS") / 1024, "memory_each_minute_mb": memory,
    }  # fmt: skip
    print(f"{clients:3} in {format}: frames late p50 {row['late_p50_ms']:.1f} ms, p99 {row['late_p99_ms']:.1f} ms; "
          f"added latency p50 {row['added_p50_ms']:.1f} ms, p95 {row['added_p95_ms']:.1f} ms; first sound after "
          f"{row['first_sound_ms']:.0f} ms; a step {row['step_ms']:.1f} ms; {row['starved_ms']:.0f} ms starved, "
          f"{row['dropped_ms']:.0f} ms dropped; {row['memory_mb']:.0f} MB", flush=True)  # fmt: skip
    return row


class Soak:
    """Clients that come and go for a while."""

    def __init__(self, url: str, until: float, seed: int) -> None:
        self.url, self.until, self.rng = url, until, random.Random(seed)
        self.ends = Counter[str]()
        """How talks ended, by what the client was and the reason that it was given."""
        self.silent: list[str] = []
        """Clients that were sent away without a reason."""

    async def client(self, number: int) -> None:
        """One client after another, until it is time."""
        await asyncio.sleep(0.1 * number)
        while time.monotonic() < self.until:
            kind = self.rng.choice([*KINDS, "talk", "talk", "talk"])
            seed = self.rng.randrange(2**31)
            try:
                await asyncio.wait_for(self.once(kind, seed), 90)
                self.ends[f"{kind}: goodbye"] += 1
            except Ended as end:
                if end.reason == "the line was lost" and kind != "die":
                    self.silent.append(kind)
                self.ends[f"{kind}: {end.reason}"] += 1
            except (UserError, ConnectionError) as error:
                self.silent.append(f"{kind}: {error}")
            except TimeoutError:
                self.ends[f"{kind}: waited too long"] += 1
            await asyncio.sleep(self.rng.random())

    async def once(self, kind: str, seed: int) -> None:
        """One talk of up to ten seconds."""
        query = {"seed": str(seed), "record": "1", "format": "opus" if kind in OGG else "pcm"}
        if kind == "query":
            query["text_temperature"] = "hot"
        frames = self.rng.randrange(12, 125)
        async with connect(self.url, query) as line:
            speaking = asyncio.create_task(say(line, voice(frames, seed), [], 3.0 if kind == "fast" else 1.0))
            try:
                heard = 0
                while heard < frames:
                    event = await line.receive()
                    heard += isinstance(event, Sound)
                    if heard == frames // 2 and isinstance(event, Sound):
                        await self.misbehave(kind, line, speaking)
            finally:
                speaking.cancel()
                with contextlib.suppress(asyncio.CancelledError, Ended):
                    await speaking

    async def misbehave(self, kind: str, line: Connection, speaking: asyncio.Task[None]) -> None:
        if kind in MESSAGES:
            await line.send(MESSAGES[kind])
        elif kind == "words":
            await line.socket.send_str("hello")
        elif kind == "stall":
            speaking.cancel()
            await asyncio.sleep(3 * self.rng.random())
        elif kind == "die":
            line.socket._writer.transport.abort()
        elif kind == "flood":
            for _ in range(1000):
                await line.send(build(Kind.CONTROL, b"\0"))


MESSAGES = {
    "odd": build(Kind.SOUND, b"abc"), "garbage": build(Kind.SOUND, b"garbage" * 40),
    "ogg": build(Kind.SOUND, b"OggS\0" + bytes(21) + b"\1\5" + b"\xff" * 5),
    "truncated": build(Kind.SOUND, b"OggS\0\0"),
    "long": bytes(70_000), "too long": bytes(2_000_000), "empty": b"", "unknown": b"\xee" * 50,
}  # fmt: skip
OGG = ("garbage", "ogg", "truncated")
KINDS = (*MESSAGES, "words", "stall", "die", "flood", "fast", "query", "talk")


def soak(minutes: float, model: str, slots: int) -> dict[str, object]:
    """Run it; what was found."""
    with tempfile.TemporaryDirectory() as folder:
        options = ("--model", model, "--slots", str(slots), "--queue", str(CLIENTS), "--grace", "2", "--record", folder)
        with serve(*options) as server:
            asyncio.run(_settle(server.url, slots))
            before = server.status("VmRSS") / 1024
            trace: list[tuple[float, float]] = []

            async def run() -> Soak:
                begun = time.monotonic()
                clients = Soak(server.url, begun + 60 * minutes, 0)

                async def watch() -> None:
                    while True:
                        await asyncio.sleep(5)
                        trace.append((time.monotonic() - begun, server.status("VmRSS") / 1024))
                        told = f"{trace[-1][0]:.0f} s: {trace[-1][1]:.0f} MB, {clients.ends.total()} talks"
                        print(told, file=sys.stderr, flush=True)

                watching = asyncio.create_task(watch())
                await asyncio.gather(*(clients.client(n) for n in range(CLIENTS)))
                watching.cancel()
                return clients

            clients = asyncio.run(run())
            time.sleep(4)
            with urllib.request.urlopen(f"{server.url}/api/info", timeout=10) as answer:
                info = json.load(answer)
            after, files, threads = server.status("VmRSS") / 1024, server.files(), server.status("Threads")
            frames, failures = (server.metric(f"duologue_{x}_total") for x in ("frames", "step_failures"))
        compared = compare(Path(folder), model, slots)
    half = [mb for at, mb in trace if at > 30 * minutes] or [after]
    found: dict[str, object] = {
        "minutes": minutes, "slots": slots, "clients": CLIENTS, "ends": dict(sorted(clients.ends.items())),
        "without_reason": clients.silent, "free_slots_after": info["free"], "queue_after": info["queue"],
        "memory_before_mb": before, "memory_half_mb": half[0], "memory_after_mb": after, "files_after": files,
        "threads_after": threads, "frames": frames, "step_failures": failures, "compared": compared,
    }  # fmt: skip
    print(json.dumps(found, indent=2))
    clean = not clients.silent and info["free"] == slots and not failures and all(c["same"] for c in compared)
    print("clean" if clean else "NOT CLEAN")
    return found | {"clean": clean}


async def _settle(url: str, slots: int) -> None:
    """Talk a little, so that memory is what it is in use."""
    await asyncio.gather(*(converse(url, 25, n, "pcm", 0.0) for n in range(slots)))


def compare(folder: Path, model: str, slots: int) -> list[dict[str, object]]:
    """Play recordings to the engine alone: is the agent's side what it says then?"""
    import torch

    from duologue.audio.wave import read_audio
    from duologue.engine.bundle import load
    from duologue.engine.duplex import Duplex

    bundle, found = load(model, device="cpu"), []
    duplex = Duplex(bundle.lm, bundle.need_codec(), slots)
    paths = sorted(folder.glob("*.flac"), key=lambda p: -p.stat().st_size)
    for path in paths[:: max(1, len(paths) // COMPARED)][:COMPARED]:
        seed = json.loads(path.with_suffix(".json").read_text())["settings"]["text_seed"]
        agent, user = read_audio(path).samples
        state = duplex.initial_state(bundle.config.sampling)
        own = bundle.config.sampling
        changed = {name: getattr(own, name) for name in own.__dataclass_fields__} | {
            "text_seed": seed, "audio_seed": seed,
        }  # fmt: skip
        duplex.engine.set_sampling(state.engine, 0, type(own)(**changed))
        said = [np.zeros(FRAME, np.float32)]
        for frame in user.reshape(-1, FRAME):
            given = torch.zeros(slots, FRAME)
            given[0] = torch.from_numpy(frame.copy())
            got = duplex.step(state, given, [slot == 0 for slot in range(slots)])
            said.append(got.sound[0].numpy().copy())
        expected = np.concatenate(said[:-1]).clip(-1, 1)
        apart = float(np.abs(expected - agent).max())
        found.append({"seconds": len(agent) / 24000, "apart": apart, "same": apart < 1e-3})
    return found


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="nano")
    parser.add_argument("--slots", type=int, default=2)
    parser.add_argument("--seconds", type=float, default=20.0, help="length of each conversation")
    parser.add_argument("--memory", type=float, metavar="MINUTES")
    parser.add_argument("--soak", type=float, metavar="MINUTES")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args(arguments)
    if options.soak:
        found = {"soak": soak(options.soak, options.model, options.slots)}
    else:
        longest = str(60 + max(options.seconds, 60 * (options.memory or 0)))
        with serve("--model", options.model, "--slots", str(options.slots), "--seconds", longest) as server:
            if options.memory:
                rows = [measure(server, 1, 60 * options.memory, "opus")]
            else:
                rows = [
                    measure(server, clients, options.seconds, format)
                    for clients in dict.fromkeys((1, options.slots))
                    for format in ("pcm", "opus")
                ]
        found = {"model": options.model, "slots": options.slots, "rows": rows}
    if options.json:
        write_json(options.json, {"made": made("serving.py", arguments, 1)} | found)
    return 0 if found.get("soak", {"clean": True})["clean"] else 1


if __name__ == "__main__":
    sys.exit(main())
