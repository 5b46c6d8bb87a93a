"""The page's own sound code, run in a browser and checked here: Ogg, Opus, rates, jitter buffer, files."""

from __future__ import annotations

import base64
import io
import json
import struct
from collections.abc import Iterator

import numpy as np
import pytest
import soundfile
import sphn
from hypothesis import given, settings
from hypothesis import strategies as st

from browser import Browser, needs_chromium
from page_server import RATE, PageServer

pytestmark = needs_chromium


@pytest.fixture(scope="module")
def page(tmp_path_factory) -> Iterator[Browser]:
    server = PageServer()
    browser = Browser(tmp_path_factory.mktemp("profile"))
    browser.open(server.url)
    browser.js(
        "(async () => { for (const name of ['ogg', 'codec', 'resample', 'jitter', 'recording', 'protocol'])"
        " window[name] = await import(`/${name}.js`); window.bytes = (text) => Uint8Array.from(atob(text), (c) =>"
        " c.charCodeAt(0)); window.text = (bytes) => btoa([...bytes].map((b) => String.fromCharCode(b)).join('')); })()"
    )
    yield browser
    browser.close()
    server.close()


def send(data: bytes) -> str:
    """JavaScript for these bytes."""
    return f"bytes('{base64.b64encode(data).decode()}')"


def got(page: Browser, expression: str) -> bytes:
    return base64.b64decode(page.js(f"(async () => text(await ({expression})))()"))


def checksum(page: bytes) -> int:
    """RFC 3533: CRC-32, polynomial 0x04c11db7, nothing inverted, the page's own sum taken as zero."""
    total = 0
    for byte in page[:22] + bytes(4) + page[26:]:
        total ^= byte << 24
        for _ in range(8):
            total = (total << 1) ^ (0x04C11DB7 if total & 0x80000000 else 0)
            total &= 0xFFFFFFFF
    return total


def pages(data: bytes) -> list[tuple[int, int, int, list[bytes]]]:
    """Flags, granule, number and finished packets of each page."""
    found, at, part = [], 0, b""
    while at < len(data):
        magic, version, flags, granule, _serial, number, told, count = struct.unpack_from("<4sBBqIIIB", data, at)
        assert (magic, version) == (b"OggS", 0)
        laces = data[at + 27 : at + 27 + count]
        size = 27 + count + sum(laces)
        assert told == checksum(data[at : at + size])
        packets, start = [], at + 27 + count
        for lace in laces:
            part += data[start : start + lace]
            start += lace
            if lace < 255:
                packets.append(part)
                part = b""
        found.append((flags, granule, number, packets))
        at += size
    return found


def tone(seconds: float, rate: int = RATE, pitch: float = 440) -> np.ndarray:
    return (0.3 * np.sin(2 * np.pi * pitch * np.arange(int(seconds * rate)) / rate)).astype(np.float32)


def test_pages_are_as_the_format_says(page):
    sizes = [1, 254, 255, 256, 510, 1000]
    code = (
        "(() => { const w = new ogg.OggWriter(); const out = [...w.head()];"
        f" for (const size of {sizes}) out.push(...w.packets([new Uint8Array(size).fill(size % 251)], 20));"
        " return out; })()"
    )
    found = pages(got(page, code))
    assert [flags for flags, *_ in found] == [2] + [0] * 7
    assert [number for _, _, number, _ in found] == list(range(8))
    assert [granule for _, granule, _, _ in found] == [0, 0, 960, 1920, 2880, 3840, 4800, 5760]
    assert [packets for *_, packets in found[2:]] == [[bytes([size % 251]) * size] for size in sizes]
    assert found[0][3][0] == b"OpusHead\x01\x01" + struct.pack("<HIHB", 312, RATE, 0, 0)
    assert found[1][3][0].startswith(b"OpusTags")


def is_sound(packet):
    return not packet.startswith((b"OpusHead", b"OpusTags"))


@given(
    packets=st.lists(st.binary(min_size=1, max_size=700).filter(is_sound), min_size=1, max_size=5),
    cuts=st.lists(st.integers(1, 300), min_size=1, max_size=5),
    junk=st.binary(max_size=30),
)
@settings(max_examples=40, deadline=None)
def test_what_is_written_is_read_whatever_the_pieces(page, packets, cuts, junk):
    sent = json.dumps([base64.b64encode(packet).decode() for packet in packets])
    code = (
        "(() => { const w = new ogg.OggWriter(), r = new ogg.OggReader(), found = [];"
        f" const all = [...{send(junk)}, ...w.head()];"
        f" for (const one of {sent}) all.push(...w.packets([bytes(one)], 20));"
        f" const cuts = {cuts}; for (let at = 0, n = 0; at < all.length; n++) {{"
        " const end = at + cuts[n % cuts.length];"
        " found.push(...r.push(Uint8Array.from(all.slice(at, end)))); at = end; }"
        " return JSON.stringify([found.map(text), r.head]); })()"
    )
    found, head = json.loads(page.js(code))
    assert [base64.b64decode(one) for one in found] == packets
    assert head == {"channels": 1, "preSkip": 312, "rate": RATE}


def test_a_packet_may_go_on_in_the_next_page(page):
    code = (
        "(() => { const w = new ogg.OggWriter(); const long = new Uint8Array(600).fill(7);"
        " const whole = w.packets([long], 20);"
        " const cut = (laces, bytes, flags) => { const out = new Uint8Array([...whole.slice(0, 26), laces.length,"
        " ...laces, ...bytes]); out[5] = flags; return out; };"
        " return [...cut([255, 255], long.slice(0, 510), 0), ...cut([90], long.slice(510), 1)]; })()"
    )
    data = bytearray(got(page, code))
    for start, end in ((0, 27 + 2 + 510), (27 + 2 + 510, len(data))):
        data[start + 22 : start + 26] = struct.pack("<I", checksum(bytes(data[start:end])))
    assert page.js(f"new ogg.OggReader().push({send(bytes(data))}).map((packet) => packet.length)") == [600]


def test_a_damaged_page_is_left_out_and_counted(page):
    writer = sphn.OpusStreamWriter(RATE)
    data = b"".join(writer.append_pcm(tone(0.08)) for _ in range(3))
    wanted = [packet for *_, packets in pages(data)[2:] for packet in packets]
    broken = bytearray(data)
    broken[data.index(wanted[1]) + 5] ^= 1
    code = (
        f"(() => {{ const r = new ogg.OggReader(); return [r.push({send(bytes(broken))}).map(text), r.damaged]; }})()"
    )
    found, damaged = page.js(code)
    assert [base64.b64decode(one) for one in found] == [wanted[0], *wanted[2:]]
    assert damaged == 1


def test_packets_of_the_server_are_read_and_their_length_known(page):
    writer = sphn.OpusStreamWriter(RATE)
    data = b"".join(writer.append_pcm(tone(0.08)) for _ in range(4))
    wanted = [packet for *_, packets in pages(data)[2:] for packet in packets]
    code = f"new ogg.OggReader().push({send(data)})"
    assert [base64.b64decode(one) for one in page.js(f"{code}.map(text)")] == wanted
    assert page.js(f"{code}.map(ogg.packetMilliseconds)") == [40] * 8


@pytest.mark.parametrize(
    ("first", "second", "length"), [(0x00, 0, 10), (0x18, 0, 60), (0x19, 0, 120), (0x68, 0, 20), (0x80, 0, 2.5),
                                    (0xF8, 0, 20), (0xFB, 3, 60)]
)  # fmt: skip
def test_length_of_packets_is_as_rfc_6716_says(page, first, second, length):
    assert page.js(f"ogg.packetMilliseconds(Uint8Array.of({first}, {second}))") == length


def spectrum_peak(sound: np.ndarray) -> float:
    return float(np.abs(np.fft.rfft(sound * np.hanning(len(sound)))).argmax() * RATE / len(sound))


def test_opus_of_the_page_is_understood_by_the_server(page):
    code = (
        "(async () => { const out = []; const c = codec.makeCodec('opus', {send: (b) => out.push(...b),"
        " hear: () => {}, fail: (e) => { throw e; }});"
        f" for (let n = 0; n < 100; n++) c.say(Float32Array.from({{length: 241}}, (_, i) =>"
        f" 0.3 * Math.sin(2 * Math.PI * 440 * (n * 241 + i) / {RATE})));"
        " await c.encoder.flush(); c.close(); return out; })()"
    )
    data = got(page, code)
    assert {len(packets) for *_, packets in pages(data)} == {1}
    heard = sphn.OpusStreamReader(RATE).append_bytes(data)
    assert len(heard) >= 100 * 241 - 480, "nothing is lost but what waits for a whole packet"
    middle = heard[4800:19200]
    assert spectrum_peak(middle) == pytest.approx(440, abs=3)
    assert np.abs(middle).max() == pytest.approx(0.3, abs=0.03)


def test_opus_of_the_server_is_understood_by_the_page(page):
    writer = sphn.OpusStreamWriter(RATE)
    data = b"".join(writer.append_pcm(piece) for piece in np.split(tone(0.96), 12))
    code = (
        "(async () => { const out = []; const c = codec.makeCodec('opus', {send: () => {},"
        f" hear: (s) => out.push(...s), fail: (e) => {{ throw e; }}}}); const all = {send(data)};"
        " for (let at = 0; at < all.length; at += 333) c.receive(all.subarray(at, at + 333));"
        " await c.decoder.flush(); c.close(); return new Uint8Array(Float32Array.from(out).buffer); })()"
    )
    heard = np.frombuffer(got(page, code), "<f4")
    assert len(heard) == 12 * 1920, "as long as what was said, so that positions can be counted"
    assert spectrum_peak(heard[4800:19200]) == pytest.approx(440, abs=3)
    assert np.abs(heard[4800:19200]).max() == pytest.approx(0.3, abs=0.03)


def test_pcm_goes_there_and_back(page):
    values = [0.0, 0.5, -0.5, 1.0, -1.0, 2.0, -2.0]
    data = got(page, f"protocol.pcmBytes(Float32Array.from({values}))")
    assert np.frombuffer(data, "<i2").tolist() == [0, 16384, -16384, 32767, -32768, 32767, -32768]
    assert page.js(f"[...protocol.pcmSamples({send(data)})]")[:5] == [0.0, 0.5, -0.5, 32767 / 32768, -1.0]


@pytest.mark.parametrize(("old", "new"), [(48_000, 24_000), (44_100, 24_000), (24_000, 44_100), (24_000, 48_000),
                                          (16_000, 24_000)])  # fmt: skip
def test_rates_are_changed_without_a_trace(page, old, new):
    def change(pitch: float) -> np.ndarray:
        code = (
            f"(() => {{ const r = new resample.Resampler({old}, {new}); const out = [];"
            f" for (let at = 0; at < {old}; at += 128) out.push(...r.push(Float32Array.from({{length: Math.min(128,"
            f" {old} - at)}}, (_, i) => Math.sin(2 * Math.PI * {pitch} * (at + i) / {old}))));"
            " return new Uint8Array(Float32Array.from(out).buffer); })()"
        )
        return np.frombuffer(got(page, code), "<f4")

    delay = page.js(f"new resample.Resampler({old}, {new}).delay")
    heard = change(1000)
    assert len(heard) == pytest.approx(new, abs=2)
    time = np.arange(len(heard)) / new - delay
    inside = slice(new // 10, len(heard) - new // 10)
    assert np.abs(heard - np.sin(2 * np.pi * 1000 * time))[inside].max() < 0.01
    if new < old:
        assert np.abs(change(14_000)[inside]).max() < 0.01, "what the new rate cannot hold is gone"


# The jitter buffer: 1 kHz makes a sample a millisecond


def jitter(page: Browser, steps: str) -> dict:
    """Run steps on a buffer `b` at 1 kHz; `pull(n)` gives n samples, `push(n)` adds n of value 1."""
    return page.js(
        "(() => { const b = new jitter.JitterBuffer(1000); const out = [];"
        " const push = (n) => b.push(new Float32Array(n).fill(1));"
        " const pull = (n) => { for (let i = 0; i < n; i += 5) { const o = new Float32Array(5); b.pull(o);"
        f" out.push(...o); }} }}; {steps}; const {{dry, cuts, dropped, held, wait, limit, pulled, position}} = b;"
        " return {dry, cuts, dropped, held, wait, limit, pulled, position, out}; })()"
    )


def test_playing_begins_80_and_10_ms_after_enough_is_there(page):
    assert jitter(page, "push(79); pull(50)")["position"] == 0
    begun = jitter(page, "push(80); pull(60)")
    assert begun["position"] == 50
    assert begun["out"][:10] == [0] * 10
    assert begun["pulled"] == 0, "silence before the first sound is no gap"


def test_a_start_and_an_end_are_ramps(page):
    out = np.array(jitter(page, "push(100); pull(120)")["out"])
    assert np.abs(np.diff(out)).max() <= 0.21  # 5 samples of fade
    assert out[20:90].min() == 1
    assert out[-5:].max() == 0


def test_what_runs_dry_waits_a_little_longer_each_time(page):
    once = jitter(page, "push(100); pull(150)")
    assert (once["dry"], once["wait"]) == (1, pytest.approx(0.015))
    twice = jitter(page, "push(100); pull(150); push(100); pull(200)")
    assert (twice["dry"], twice["wait"]) == (2, pytest.approx(0.020))
    often = jitter(page, "for (let n = 0; n < 40; n++) { push(100); pull(300); }")
    assert often["wait"] == pytest.approx(0.08)
    assert once["pulled"] == 40
    assert once["position"] == 100, "nothing is lost by running dry"


def test_too_much_is_cut_down_to_the_beginning_and_the_limit_grows(page):
    cut = jitter(page, "push(100); pull(40); push(300); pull(5)")
    assert cut["cuts"] == 1
    assert cut["held"] == 90 - 5
    assert cut["dropped"] == 70 + 300 - 90
    assert cut["limit"] == pytest.approx(0.14)
    assert cut["position"] == 30 + cut["dropped"] + 5
    assert jitter(page, "push(100); pull(40); push(130); pull(5)")["cuts"] == 0
    assert jitter(page, "push(90); pull(20); for (let n = 0; n < 30; n++) { push(500); pull(5); }")["limit"] == 0.32


def test_a_steady_line_is_played_without_a_gap(page):
    steady = jitter(page, "push(80); for (let n = 0; n < 50; n++) { pull(80); push(80); }")
    assert (steady["dry"], steady["cuts"]) == (0, 0)
    assert min(steady["out"][20:]) == 1


# The two files


def test_sound_lies_in_the_file_where_it_was_heard(page):
    code = (
        "(async () => { const r = new recording.Recording();"
        " r.add('user', 0, new Float32Array(240).fill(0.5)); r.add('agent', 0.02, new Float32Array(240).fill(-0.25));"
        " return new Uint8Array(await r.wav().arrayBuffer()); })()"
    )
    sound, rate = soundfile.read(io.BytesIO(got(page, code)), always_2d=True)
    wanted = np.zeros((720, 2))
    wanted[480:, 0], wanted[:240, 1] = -0.25, 0.5
    np.testing.assert_array_equal(sound, wanted)
    assert rate == RATE


def test_long_sound_in_small_pieces_is_kept_whole(page):
    code = (
        "(async () => { const r = new recording.Recording(); for (let n = 0; n < 25 * 50; n++)"
        " r.add('user', n * 0.02, new Float32Array(480).fill((n % 100) / 128));"
        " r.add('user', 26, new Float32Array(600000).fill(0.5));"
        " return new Uint8Array(await new Blob([r.wav(), JSON.stringify(r.user.blocks.length)]).arrayBuffer()); })()"
    )
    data = got(page, code)
    sound, _ = soundfile.read(io.BytesIO(data[:-1]), always_2d=True)
    np.testing.assert_array_equal(sound[: 25 * RATE, 1], np.repeat(np.arange(1250) % 100 / 128, 480))
    assert not sound[25 * RATE : 26 * RATE].any()
    assert (sound[26 * RATE :, 1] == 0.5).all()
    assert data[-1:] == b"6"


def test_pieces_become_words_with_times(page):
    code = (
        "(async () => { const r = new recording.Recording(); [[' hel', 1], ['lo', 1.08], [' you', 1.5]].forEach((p) =>"
        " r.addPiece(...p)); return JSON.parse(await r.json({made: 1}).text()); })()"
    )
    said = page.js(code)
    assert said["agent"]["words"] == [{"word": "hello", "start": 1}, {"word": "you", "start": 1.5}]
    assert (said["rate"], said["channels"], said["made"]) == (RATE, ["agent", "user"], 1)


def test_more_than_an_hour_is_not_kept(page):
    code = (
        "(() => { const r = new recording.Recording(); r.add('user', 3599, new Float32Array(10));"
        " r.add('user', 3600, new Float32Array(10)); return [r.user.blocks.length, r.full]; })()"
    )
    assert page.js(code) == [1, True]
