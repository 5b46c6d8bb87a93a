"""Plans as sound, the user's channel, and the verb that makes corpora of them."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from duologue.audio.loudness import loudness
from duologue.audio.wave import Audio, read_audio, write_audio
from duologue.base.arguments import parse
from duologue.base.errors import UserError
from duologue.corpus import simulate, voices
from duologue.corpus.channel import ChannelConfig, Effects, apply_effects, draw_effects, made_noise, telephone
from duologue.corpus.render import CEILING, heard, levelled_to, plan_record, render
from duologue.corpus.simulate import SimulateConfig, main, read_truth
from duologue.corpus.spoken import Placed, Plan, Spoken
from duologue.dialogue.timeline import Word
from test_sim_voices import ToneEngine

RATE = 24_000


def said(text: str, seconds: float, height: float = 0.1) -> Spoken:
    words, each = text.split(), seconds / len(text.split())
    sound = height * np.sin(2 * np.pi * 440 * np.arange(round(seconds * RATE)) / RATE)
    times = tuple(Word(w, i * each, (i + 1) * each) for i, w in enumerate(words))
    return Spoken(text=text, words=times, samples=sound.astype(np.float32))


def plan(*placed: Placed, duration: float = 6.0) -> Plan:
    return Plan(id="x", duration=duration, placed=placed, voices=("a", "b"), seed=1)


def test_stretches_lie_where_the_plan_puts_them() -> None:
    made = render(plan(Placed(side=0, start=0.5, spoken=said("one two", 1.0)),
                       Placed(side=1, start=2.0, spoken=said("three", 1.0))))  # fmt: skip
    assert made.audio.samples.shape == (2, 6 * RATE)
    for side, (start, end) in enumerate(((0.5, 1.5), (2.0, 3.0))):
        loud = np.flatnonzero(made.audio.samples[side]) / RATE
        assert (loud[0], loud[-1]) == pytest.approx((start, end), abs=0.002)
    assert made.timeline.agent.words == (Word("one", 0.5, 1.0), Word("two", 1.0, 1.5))
    assert made.timeline.user.speech.tolist() == [[2.0, 3.0]]


def test_a_cut_ends_the_sound_and_the_words() -> None:
    item = Placed(side=0, start=1.0, spoken=said("a b c d", 2.0), until=0.75, fade=0.25)
    sound = heard(item)
    assert len(sound) == round(0.75 * RATE)
    assert np.abs(sound[: RATE // 2]).max() == pytest.approx(0.1, rel=0.01)
    assert np.abs(sound[round(0.7 * RATE) :]).max() < 0.012
    assert abs(sound[-1]) < 1e-6
    made = render(plan(item))
    assert [(w.start, w.end) for w in made.timeline.agent.words or ()] == [(1.0, 1.5), (1.5, 1.75)]
    sharp = heard(replace(item, fade=0.0))
    # At 0.7503 s the tone is near its height: without a ramp of its own the cut would click.
    early = heard(replace(item, fade=0.0, until=0.75 + 0.25 / 440))
    assert max(abs(sharp[-1]), abs(early[-1])) < 0.001


def test_each_side_has_the_loudness_that_is_asked_for() -> None:
    made = render(plan(Placed(side=0, start=0.5, spoken=said("one", 2.0, 0.02)),
                       Placed(side=1, start=3.0, spoken=said("two", 2.0, 0.7))), (-20.0, -31.0))  # fmt: skip
    assert made.loudness == pytest.approx((-20.0, -31.0), abs=0.05)
    assert loudness(made.audio.channel(0)) == pytest.approx(-20.0, abs=0.05)


@settings(max_examples=25, deadline=None)
@given(st.floats(-60, 0), st.floats(0.01, 1.0), st.integers(0, 5))
def test_nothing_clips_whatever_is_asked(target: float, height: float, seed: int) -> None:
    rng = np.random.default_rng(seed)
    sound = (height * rng.standard_normal(RATE) ** 3).astype(np.float32)
    assert np.abs(levelled_to(sound, target)).max() <= CEILING + 1e-6


def test_a_silent_side_stays_silent() -> None:
    made = render(plan(Placed(side=0, start=0.5, spoken=said("one", 0.2))))
    assert made.loudness[1] is None
    assert made.loudness[0] == pytest.approx(-24, abs=0.1)  # shorter than a loudness block: by power
    assert not made.audio.samples[1].any()


def test_a_plan_without_sound_is_refused_by_its_text() -> None:
    with pytest.raises(UserError, match="'one' has no sound"):
        render(plan(Placed(side=0, start=0.5, spoken=replace(said("one", 1.0), samples=None))))


def test_the_plan_is_written_without_its_sound() -> None:
    record = plan_record(plan(Placed(side=1, start=0.5, spoken=said("one two", 1.0), until=0.4, kind="false_start")))
    assert json.loads(json.dumps(record))["placed"][0] == {
        "side": 1, "start": 0.5, "end": 0.9, "kind": "false_start", "text": "one two", "cut": True, "fade": 0.0,
    }  # fmt: skip


def talk(seconds: float = 4.0) -> Audio:
    """The agent in the first half, the user in the second."""
    n = round(seconds * RATE)
    rng = np.random.default_rng(0)
    sides = 0.05 * rng.standard_normal((2, n)).astype(np.float32)
    sides[0, n // 2 :] = 0
    sides[1, : n // 2] = 0
    return Audio(sides, RATE)


def test_effects_leave_the_agent_alone_and_repeat() -> None:
    effects = Effects(seed=3, gain_db=6.0, snr_db=10.0, noise="pink", echo=(0.2, 0.2), telephone=True)
    one, two = apply_effects(talk(), effects), apply_effects(talk(), effects)
    assert np.array_equal(one.samples, two.samples)
    assert np.array_equal(one.samples[0], talk().samples[0])
    assert not np.array_equal(one.samples[1], apply_effects(talk(), replace(effects, seed=4)).samples[1])


def test_echo_is_the_agent_late_and_small() -> None:
    heard_there = apply_effects(talk(), Effects(seed=0, echo=(0.15, 0.25))).samples[1]
    late = RATE // 4
    assert np.allclose(heard_there[late : 2 * RATE], 0.15 * talk().samples[0][: 2 * RATE - late], atol=1e-6)
    assert not heard_there[:late].any()


@pytest.mark.parametrize("kind", ["white", "pink", "hum"])
def test_noise_has_the_ratio_that_is_asked_for(kind: str) -> None:
    noisy = apply_effects(talk(), Effects(seed=0, snr_db=7.0, noise=kind)).samples[1]
    noise = noisy - talk().samples[1]
    ratio = np.mean(talk().samples[1][2 * RATE :] ** 2) / np.mean(noise**2)
    assert 10 * np.log10(ratio) == pytest.approx(7.0, abs=0.01)


def test_pink_noise_falls_and_white_does_not() -> None:
    power = {
        k: np.abs(np.fft.rfft(made_noise(k, RATE, RATE, np.random.default_rng(0)))) ** 2 for k in ("white", "pink")
    }
    fall = {k: 10 * np.log10(p[200:400].mean() / p[3200:6400].mean()) for k, p in power.items()}
    assert fall["white"] == pytest.approx(0, abs=1)
    assert fall["pink"] == pytest.approx(12, abs=1)  # four octaves


def test_recorded_noise_is_taken_from_the_folder(tmp_path: Path) -> None:
    write_audio(tmp_path / "fan.wav", Audio(np.full((1, 800), 0.5, np.float32), 8000))
    effects = draw_effects(ChannelConfig(noise=1.0, noise_folder=tmp_path), 5)
    assert effects.noise == "fan.wav"
    noise = apply_effects(talk(), effects, tmp_path).samples[1] - talk().samples[1]
    assert np.std(noise) < 0.2 * np.mean(noise)
    with pytest.raises(UserError, match=r"holds no \.wav or \.flac"):
        draw_effects(ChannelConfig(noise=1.0, noise_folder=tmp_path / "none"), 5)


def test_a_telephone_passes_its_band_and_delays_nothing() -> None:
    t = np.arange(RATE) / RATE
    kept = {f: telephone(np.sin(2 * np.pi * f * t), RATE)[6000:18000] for f in (80, 1000, 7000)}
    assert np.std(kept[80]) < 0.01
    assert np.std(kept[7000]) < 0.03
    assert np.allclose(kept[1000], np.sin(2 * np.pi * 1000 * t)[6000:18000], atol=0.01)


def test_a_room_rings_without_moving_the_speech() -> None:
    pytest.importorskip("pyroomacoustics")
    audio = Audio(np.zeros((2, RATE), np.float32), RATE)
    audio.samples[1, 6000] = 0.5
    there = apply_effects(audio, Effects(seed=1, rt60=0.3)).samples[1]
    assert int(np.argmax(np.abs(there))) == 6000
    assert not there[:5900].any() or np.abs(there[:5900]).max() < 1e-6
    assert np.abs(there[6500:9000]).max() > 1e-3


def test_a_loud_user_is_turned_down_not_clipped() -> None:
    loud = apply_effects(talk(), Effects(seed=0, gain_db=40.0)).samples[1]
    assert np.abs(loud).max() == pytest.approx(CEILING)


def test_things_happen_as_often_as_asked() -> None:
    config = ChannelConfig(noise=0.3, echo=0.5)
    drawn = [draw_effects(config, seed) for seed in range(400)]
    assert np.mean([e.snr_db is not None for e in drawn]) == pytest.approx(0.3, abs=0.07)
    assert np.mean([e.echo is not None for e in drawn]) == pytest.approx(0.5, abs=0.08)
    assert all(e.gain_db is None and e.rt60 is None and not e.telephone for e in drawn)
    assert all(-6 <= e.snr_db <= 30 for e in drawn if e.snr_db is not None)
    # What is switched on beside it changes no other draw.
    assert [e.echo for e in drawn] == [draw_effects(replace(config, noise=0.0), seed).echo for seed in range(400)]


@pytest.mark.parametrize(("made", "told"), [({"noise": 2.0}, "2 is not a share"), ({"snr_db": (5.0, 1.0)}, "no range")])
def test_a_wrong_channel_is_refused(made: dict[str, object], told: str) -> None:
    with pytest.raises(UserError, match=told):
        ChannelConfig(**made)  # type: ignore[arg-type]


@pytest.fixture
def chat(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Three scripts, and voices that are tones."""
    turns = [
        "A: hello how are you today", "B: i am fine and how are you", "A: very well thank you so much",
        "B: that is good to hear my friend", "A: what did you do last night", "B: i went to see a film",
    ]  # fmt: skip
    (tmp_path / "chat.txt").write_text("\n\n".join("\n".join(turns[i:] + turns[:i]) for i in (0, 2, 4)) + "\n")
    monkeypatch.setitem(voices.VOICES, "tone", lambda weights: ToneEngine())
    yield tmp_path / "chat.txt"
    voices._engine.cache_clear()


def make(chat: Path, out: Path, *options: str, hours: float = 0.012) -> int:
    args = ["-o", str(out), "--hours", str(hours), "--script", str(chat), "--agent-voice", "tone/low", "--user-voices",
            "tone/low", "--times", "letters", *options]  # fmt: skip
    return main(parse(SimulateConfig, args, "duologue simulate"))


def test_a_corpus_holds_sound_words_truth_and_a_list(
    chat: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "corpus"
    assert make(chat, out, "--json", str(tmp_path / "said.json"), "--channel.echo", "1") == 0
    rows = [json.loads(line) for line in (out / "data.jsonl").read_text().splitlines()]
    assert len(rows) >= 2
    assert sum(row["duration"] for row in rows) >= 43.2
    for row in rows:
        sound = read_audio(out / row["path"])
        assert (sound.rate, sound.channels) == (24000, 2)
        assert sound.duration == pytest.approx(row["duration"], abs=1e-4)
        words = json.loads((out / row["path"]).with_suffix(".json").read_text())["alignments"]
        kept = out / "truth" / Path(row["path"]).with_suffix(".json").name
        timeline = read_truth(kept)
        for label, track in (("SPEAKER_MAIN", timeline.agent), ("SPEAKER_USER", timeline.user)):
            assert [w for w, _, whose in words if whose == label] == [w.text for w in track.words or ()]
        assert {label for _, _, label in words} == {"SPEAKER_MAIN", "SPEAKER_USER"}
        truth = json.loads(kept.read_text())
        assert truth["effects"]["echo"] is not None
        assert truth["agent"]["lufs"] == pytest.approx(-24, abs=0.1)
        assert truth["plan"]["voices"][0] == "tone/low"
        assert truth["plan"]["voices"][1] != "tone/low"
        agent = sound.samples[0]
        for start, end in timeline.agent.speech:
            assert np.abs(agent[round(start * RATE) : round(end * RATE)]).max() > 0.01
        loud = np.zeros(len(agent), bool)
        for start, end in timeline.agent.speech:
            loud[max(0, round((start - 0.002) * RATE)) : round((end + 0.002) * RATE)] = True
        assert not agent[~loud].any()
    told = capsys.readouterr().out
    assert "floor_transfer_offset" in told
    assert "tone: " in told
    assert json.loads((tmp_path / "said.json").read_text())["conversations"] == len(rows)


def test_an_agent_alone_says_the_lines_of_both_and_the_user_at_most_nods(chat: Path, tmp_path: Path) -> None:
    make(chat, tmp_path / "corpus", "--alone")
    for row in (json.loads(line) for line in (tmp_path / "corpus" / "data.jsonl").read_text().splitlines()):
        timeline = read_truth(tmp_path / "corpus" / "truth" / Path(row["path"]).with_suffix(".json").name)
        said = " ".join(w.text for w in timeline.agent.words or ())
        for line in chat.read_text().split("\n\n")[0].splitlines():
            assert line[3:].split()[-2] in said
        assert len(timeline.agent.words or ()) > 4 * len(timeline.user.words or ())


def test_a_user_who_is_heard_says_the_lines_of_both_each_in_another_voice(
    chat: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []
    drawn = simulate.draw_voice

    def draw(bases: tuple[str, ...], draws: np.random.Generator, **given: str) -> str:
        name = drawn(bases, draws, **given)
        if not given:  # apart from nobody: a line of one who is heard
            asked.append(name)
        return name

    monkeypatch.setattr(simulate, "draw_voice", draw)
    make(chat, tmp_path / "corpus", "--heard")
    rows = [json.loads(line) for line in (tmp_path / "corpus" / "data.jsonl").read_text().splitlines()]
    for row in rows:
        timeline = read_truth(tmp_path / "corpus" / "truth" / Path(row["path"]).with_suffix(".json").name)
        assert len(timeline.user.words or ()) > 4 * len(timeline.agent.words or ())
    assert len(set(asked)) == len(asked) > 2 * len(rows)
    first = list(asked)
    make(chat, tmp_path / "again", "--heard")
    assert asked == first * 2, "the same lines have the same voices"


def test_somebody_must_be_left_to_speak(chat: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="--alone: and --heard leave nobody"):
        main(SimulateConfig(out=tmp_path / "corpus", hours=0.01, script=str(chat), alone=True, heard=True))
    assert not (tmp_path / "corpus").exists()


def contents(out: Path) -> dict[str, bytes]:
    return {p.name: p.read_bytes() for f in ("truth", "data_stereo") for p in sorted((out / f).iterdir())}


def test_a_killed_run_goes_on_to_the_same_corpus(chat: Path, tmp_path: Path) -> None:
    make(chat, tmp_path / "a")
    make(chat, tmp_path / "b", hours=0.001)
    (tmp_path / "b" / "data_stereo" / "000001.wav").write_bytes(b"half of a file")
    make(chat, tmp_path / "b")
    one, two = contents(tmp_path / "a"), contents(tmp_path / "b")
    assert {n[7:] for n in one} <= {"wav", "json"}
    assert [k for k in one if not k.endswith(".json")] == [k for k in two if not k.endswith(".json")]
    assert one == two
    assert (tmp_path / "a" / "data.jsonl").read_bytes() == (tmp_path / "b" / "data.jsonl").read_bytes()


def test_a_folder_with_other_settings_is_refused(chat: Path, tmp_path: Path) -> None:
    make(chat, tmp_path / "a", hours=0.001)
    with pytest.raises(UserError, match=r"was made with another knobs\.fillers, seed"):
        make(chat, tmp_path / "a", "--seed", "1", "--knobs.fillers", "2")
    with pytest.raises(UserError, match="is not empty"):
        make(chat, tmp_path)
    with pytest.raises(UserError, match=r"0\.0 hours"):
        make(chat, tmp_path / "b", hours=0.0)
    assert not (tmp_path / "b").exists()
