// The line to the server: one WebSocket at a time, taken up again when it is lost.

import { asText, chatAddress, ERROR, HANDSHAKE, METADATA, pack, ping, sincePing, SOUND, TEXT, unpack } from "./protocol.js";

const PING_EVERY = 2000; // ms
const SILENCE = 10000; // ms without any message: the line is dead, whatever the browser thinks
const RETRIES = [300, 600, 1200, 2500, 5000]; // ms before the first tries, the last of them before every other
const PATIENCE = 60000; // ms of trying before giving up

const RESTARTING = 1012;
const FINAL = { 1008: "the server refused", 1009: "too much was sent at once", 1011: "the server failed", 1013: "no place is free, try again later" };

export class Connection {
  /**
   * `wishes`: query parameters. `resume`: the token of a session to go on with, or null. `calls`: state(name, detail), ready(metadata), sound(bytes), text(piece),
   * words(metadata), stats(metadata), roundTrip(ms).
   */
  constructor(base, wishes, resume, calls) {
    this.base = base;
    this.wishes = wishes;
    this.calls = calls;
    this.resume = resume;
    this.left = null; // a socket that seems dead: a farewell over it would end the session, so it waits
    this.lostAt = null; // when the line was lost, on the page's clock; null while it holds
    this.tries = 0;
    this.timers = [];
    this.now = () => performance.now();
    this.hurry = () => this.lostAt !== null && this.socket === null && this.open();
    addEventListener("online", this.hurry);
    this.open();
  }

  open() {
    this.clearTimers();
    this.talking = false;
    this.error = this.reason = null;
    this.resuming = this.resume !== null;
    const wishes = { ...this.wishes, meta: 1, resume: this.resume };
    const socket = new WebSocket(chatAddress(this.base, wishes));
    this.socket = socket;
    socket.binaryType = "arraybuffer";
    if (this.lostAt === null) this.calls.state("connecting");
    this.heardAt = this.now();
    socket.onopen = () => this.lostAt === null && this.calls.state("preparing");
    socket.onmessage = ({ data }) => this.socket === socket && this.receive(data);
    socket.onclose = ({ code }) => this.socket === socket && this.closed(code);
    this.timers.push(setInterval(() => this.watch(), PING_EVERY));
  }

  watch() {
    if (this.now() - this.heardAt > SILENCE) {
      this.left = this.socket;
      this.closed(1006);
    } else if (this.socket?.readyState === WebSocket.OPEN) this.socket.send(ping(this.now()));
  }

  /** Sound goes out only while both sides talk. */
  send(bytes) {
    if (this.talking && this.socket.readyState === WebSocket.OPEN) this.socket.send(pack(SOUND, bytes));
  }

  receive(data) {
    this.heardAt = this.now();
    const { type, bytes } = unpack(data);
    if (type === HANDSHAKE) {
      this.talking = true;
      this.lostAt = null;
      this.tries = 0;
      this.calls.state("talking");
      this.watch();
    } else if (type === SOUND) this.calls.sound(bytes);
    else if (type === TEXT) this.calls.text(asText(bytes));
    else if (type === METADATA) this.told(JSON.parse(asText(bytes)));
    else if (type === ERROR) this.error = asText(bytes);
    else {
      const past = sincePing(bytes, this.now());
      if (past !== null) this.calls.roundTrip(past);
    }
  }

  told(message) {
    if (message.type === "queued" && message.position > 0) this.calls.state("queued", message.position);
    else if (message.type === "queued") this.calls.state("preparing"); // its turn has come
    else if (message.type === "ready") {
      this.resume = message.resume ?? null;
      this.forget();
      this.calls.ready(message);
    } else if (message.type === "words") this.calls.words(message);
    else if (message.type === "stats") this.calls.stats(message);
    else if (message.type === "end") this.reason = message.reason;
  }

  async closed(code) {
    this.clearTimers();
    this.socket = null;
    this.talking = false;
    const why = this.error ?? this.reason;
    if (this.resuming && code === 1008) {
      this.resume = null; // it is not remembered: begin anew
      this.retry();
    } else if (code === RESTARTING) this.lost(why ?? "the server restarts");
    else if (FINAL[code]) this.end(why ?? FINAL[code]);
    else if (this.reason !== null || this.error !== null) this.end(why);
    else if (this.resume !== null || this.lostAt !== null) this.lost("the line broke");
    else this.never(await loading(this.base));
  }

  /** The first try failed: wait for a server that loads, and give up on one that is not there. */
  never(isLoading) {
    if (this.stopped) return;
    if (isLoading) this.lost("the server is not ready yet");
    else this.end("the server cannot be reached");
  }

  lost(reason) {
    this.lostAt ??= this.now();
    if (this.now() - this.lostAt > PATIENCE) this.end(`the server could not be reached for a minute: ${reason}`);
    else {
      this.calls.state("lost", reason);
      this.retry();
    }
  }

  retry() {
    this.lostAt ??= this.now();
    const pause = RETRIES[Math.min(this.tries, RETRIES.length - 1)];
    this.tries += 1;
    this.timers.push(setTimeout(() => this.open(), pause));
  }

  end(reason) {
    this.stop();
    this.calls.state("ended", reason);
  }

  /** Hang up; nothing is called any more. */
  stop() {
    const socket = this.leave();
    socket?.close(1000);
    this.forget();
  }

  /** Go without a word, so that another connection can go on with the session. The socket, if there is one. */
  leave() {
    this.stopped = true;
    this.clearTimers();
    removeEventListener("online", this.hurry);
    const socket = this.socket;
    this.socket = null;
    this.talking = false;
    return socket;
  }

  forget() {
    this.left?.close();
    this.left = null;
  }

  clearTimers() {
    for (const timer of this.timers.splice(0)) {
      clearInterval(timer);
      clearTimeout(timer);
    }
  }
}

/** Whether the server is there and says that it takes no sessions yet. */
async function loading(base) {
  try {
    return (await fetch(new URL("ready", base))).status === 503;
  } catch {
    return false;
  }
}
