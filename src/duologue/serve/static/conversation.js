// One conversation: sound in and out, the line, the clock that both sides share, and what is kept of it.
//
// The clock is the server's: it counts the user's frames. A frame of the agent is heard while the user's next one is
// spoken. Where on the browser's clock that was, the player's reports say.

import { canOpus, makeCodec } from "./codec.js";
import { Connection } from "./connection.js";
import { RATE } from "./protocol.js";
import { Recording } from "./recording.js";
import { Sound } from "./sound.js";

export class Conversation extends EventTarget {
  /** `wishes` are query parameters; `format` is "opus", "pcm" or "auto". */
  constructor(base, wishes, format) {
    super();
    this.base = base;
    this.wishes = wishes;
    this.format = format;
    this.recording = new Recording();
    this.muted = false;
    this.pending = []; // words that came and are not yet heard: {piece, at}
    this.counts = { dropped: 0, cuts: 0, dry: 0, silent: 0, lost: 0 };
    this.past = { dropped: 0, cuts: 0, dry: 0, silent: 0 }; // of streams before this one
    this.numbers = {}; // the newest of: roundTrip, buffered, late, queued, serverDropped, starved (ms)
    this.state = "new";
    this.zero = null; // the clock's second at which this connection's sound begins
  }

  tell(name, detail) {
    this.dispatchEvent(new CustomEvent(name, { detail }));
  }

  setState(name, detail) {
    this.state = name;
    this.tell("state", { name, detail });
  }

  async start() {
    this.setState("microphone");
    try {
      this.sound = await Sound.open({
        heard: (data) => this.heard(data),
        played: (report) => this.played(report),
        lost: () => this.finish("the microphone was taken away"),
      });
      this.format = await choose(this.format);
    } catch (error) {
      if (!this.over) this.finish(error.message);
      return;
    }
    if (this.over) this.sound.close();
    else {
      this.sound.mute(this.muted);
      this.connect();
    }
  }

  connect(resume = null) {
    this.line = new Connection(this.base, { ...this.wishes, format: this.format }, resume, {
      state: (name, detail) => this.lineState(name, detail),
      ready: (message) => this.ready(message),
      sound: (bytes) => this.codec?.receive(bytes),
      text: () => {}, // the same as `words`, without its time
      words: ({ piece, at }) => this.pending.push({ piece, at: this.offset + at }),
      stats: (message) => this.stats(message),
      roundTrip: (ms) => (this.numbers.roundTrip = ms),
    });
  }

  lineState(name, detail) {
    if (name === "lost" && this.state === "talking") this.counts.lost += 1;
    if (name === "lost") this.breakOff();
    if (name === "ended") this.finish(detail);
    else this.setState(name, detail);
  }

  /** The sound of a connection is over. */
  breakOff() {
    this.zero = null;
    this.pending = [];
    for (const name of Object.keys(this.past)) this.past[name] = this.counts[name];
    this.sound.clear();
    const { serverDropped, starved } = this.numbers; // counted for a whole session
    this.numbers = { serverDropped, starved };
  }

  /** A session begins, or goes on: both sides' sound is counted from here. */
  ready(message) {
    this.info = message;
    this.breakOff();
    const known = this.recording.sessions.some(({ id }) => id === message.session);
    if (!known) {
      this.offset = Math.ceil(this.recording.end * 10) / 10;
      this.recording.sessions.push({ id: message.session, from: this.offset });
      this.numbers = {};
      if (this.offset) this.tell("anew");
    }
    if (message.settings?.record) this.tell("note", "The server records this conversation.");
    // Without being told: a session goes on behind the last frame that came of it.
    this.zero = message.at == null ? (known ? this.next : this.offset) : this.offset + message.at;
    this.next = this.zero;
    this.frame = message.frame / RATE;
    this.said = this.came = 0;
    this.shift = this.unsent = 0;
    this.before = this.missed;
    this.codec?.close();
    this.codec = makeCodec(this.format, {
      send: (bytes) => this.line.send(bytes),
      hear: (samples) => this.hear(samples),
      fail: (error) => this.codecFailed(error),
    });
  }

  codecFailed(error) {
    if (this.over || this.format === "pcm") return;
    this.format = "pcm"; // the browser's own Opus gave up; plain sound needs nothing
    this.tell("note", `This browser's Opus failed (${error.message}): going on with PCM.`);
    this.line.leave(); // the server closes it once the session goes on elsewhere
    this.breakOff();
    this.connect(this.line.resume);
  }

  /** From the microphone. */
  heard({ samples, levels }) {
    this.tell("levels", { side: "user", levels });
    if (this.zero === null || !this.line.talking) return;
    this.codec.say(samples);
    this.recording.add("user", this.zero + this.shift + this.said / RATE, samples);
    this.said += samples.length;
    this.tell("clock", this.zero + this.shift + this.said / RATE);
  }

  /** The clock's second at which this connection's sound of the agent begins. */
  get mouth() {
    return this.zero + this.frame + this.unsent;
  }

  /** From the server, decoded. */
  hear(samples) {
    if (this.zero === null) return;
    this.sound.play(samples);
    this.recording.add("agent", this.mouth + this.came / RATE, samples);
    this.came += samples.length;
    this.next = this.mouth - this.frame + this.came / RATE;
  }

  /** From the player: what it plays now. Words are shown once their sound is heard. */
  played(report) {
    this.tell("levels", { side: "agent", levels: report.levels });
    if (report.stream !== this.sound.stream) return; // it was on its way when another stream began
    for (const name of Object.keys(this.past)) this.counts[name] = this.past[name] + report[name];
    this.numbers.buffered = report.buffered * 1000;
    if (this.zero === null) return;
    const now = this.mouth + report.position;
    while (this.pending.length && this.pending[0].at <= now) {
      const { piece, at } = this.pending.shift();
      this.recording.addPiece(piece, at);
      this.tell("word", { piece, at, time: report.time - (now - at) });
    }
  }

  stats({ late_ms: late, buffered_ms: queued, dropped_ms: serverDropped, starved_ms: starved, unsent = 0 }) {
    Object.assign(this.numbers, { late, queued, serverDropped, starved });
    this.unsent = unsent * this.frame; // seconds of the agent that the line had no room for
    this.shift = this.missed - this.before;
  }

  /** Seconds by which the user's sound is heard later than it was sent: silence stood in for it, or some was cut. */
  get missed() {
    return ((this.numbers.starved ?? 0) - (this.numbers.serverDropped ?? 0)) / 1000;
  }

  mute(muted) {
    this.muted = muted;
    this.sound?.mute(muted);
    this.tell("mute", muted);
  }

  finish(reason) {
    if (this.over) return;
    this.over = true;
    this.line?.stop();
    this.codec?.close();
    this.sound?.close();
    this.setState("ended", reason);
  }

  /** What the JSON file says about the conversation, beside its words. */
  about() {
    const { settings, format } = this.info ?? {};
    const player = {
      dropped_seconds: this.counts.dropped,
      cuts: this.counts.cuts,
      ran_dry: this.counts.dry,
      silent_seconds: this.counts.silent,
    };
    const server = { dropped_ms: this.numbers.serverDropped ?? null, starved_ms: this.numbers.starved ?? null };
    return { settings: settings ?? null, format: format ?? null, player, server, connections_lost: this.counts.lost };
  }
}

/** "auto" is PCM on this machine, where nothing can be saved, and Opus over a network where the browser has it. */
async function choose(format) {
  if (format === "pcm") return "pcm";
  const near = ["localhost", "127.0.0.1", "[::1]"].includes(location.hostname);
  if (format === "auto" && near) return "pcm";
  if (await canOpus()) return "opus";
  if (format === "opus") throw new Error("this browser cannot write Opus: choose PCM");
  return "pcm";
}
