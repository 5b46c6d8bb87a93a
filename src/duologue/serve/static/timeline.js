// Both voices as they are spoken and heard, newest at the right, with the agent's words below and what overlaps
// shaded. Where the reader wants less motion the picture stands and fills from the left, one page after the other.

import { BIN } from "./levels.js";

const BINS = 4096; // kept per voice
const LANE = 72; // height of a voice's bar, in pixels; the page's style has the same
const GAP = 8;
const ROW = 18;
const ROWS = 4; // of words
const LAG = 0.06; // seconds until a level has come from the audio thread
const LOUD = 0.02; // of full scale: somebody speaks
const HANG = 10; // bins that a speaker goes on after the last loud one
const NAMES = ["--ink", "--soft", "--shade", "--line", "--user", "--agent", "--overlap"];

class Voice {
  constructor(top, colour) {
    this.top = top;
    this.colour = colour;
    this.bins = new Int32Array(BINS).fill(-1); // which bin lies at this place
    this.peaks = new Float32Array(BINS);
    this.last = -1e9; // the last loud bin
    this.speaking = new Uint8Array(BINS);
  }

  add(bin, peak) {
    if (peak > LOUD) this.last = bin;
    const place = bin % BINS;
    this.bins[place] = bin;
    this.peaks[place] = peak;
    this.speaking[place] = bin - this.last <= HANG ? 1 : 0;
  }

  peak(bin) {
    const place = bin % BINS;
    return this.bins[place] === bin ? this.peaks[place] : null;
  }

  speaks(bin) {
    const place = bin % BINS;
    return this.bins[place] === bin && this.speaking[place] === 1;
  }
}

export class Timeline {
  constructor(canvas) {
    this.canvas = canvas;
    this.pen = canvas.getContext("2d");
    this.still = matchMedia("(prefers-reduced-motion: reduce)");
    this.time = null; // a function that gives the audio clock's second
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => this.restyle());
    new ResizeObserver(() => this.resize()).observe(canvas);
    this.clear();
    this.restyle();
    this.resize();
  }

  clear() {
    this.voices = { user: new Voice(0, "--user"), agent: new Voice(LANE + GAP, "--agent") };
    this.words = [];
    this.ends = Array(ROWS).fill(-1e9);
    this.zero = null; // the audio clock's second at which the conversation's clock was 0
    this.now = 0;
  }

  restyle() {
    const style = getComputedStyle(this.canvas);
    this.colours = Object.fromEntries(NAMES.map((name) => [name, style.getPropertyValue(name).trim()]));
    this.font = `12.5px ${style.fontFamily}`;
    this.draw();
  }

  resize() {
    const { clientWidth, clientHeight } = this.canvas;
    const ratio = devicePixelRatio || 1;
    this.width = clientWidth;
    this.height = clientHeight;
    this.scale = Math.max(44, Math.min(90, clientWidth / 12)); // pixels a second
    this.canvas.width = Math.round(clientWidth * ratio);
    this.canvas.height = Math.round(clientHeight * ratio);
    this.pen.setTransform(ratio, 0, 0, ratio, 0, 0);
    this.draw();
  }

  /** Draw from now on, by a clock; without one the picture stands. */
  run(time) {
    const idle = this.time === null;
    this.time = time;
    if (time && idle) this.frame();
  }

  frame() {
    if (!this.time) return;
    this.now = this.time() - LAG;
    this.draw();
    requestAnimationFrame(() => this.frame());
  }

  levels(side, pairs) {
    for (let index = 0; index < pairs.length; index += 2) this.voices[side].add(pairs[index], pairs[index + 1]);
  }

  /** A piece of a word, heard at a second of the audio clock. */
  word(piece, time) {
    const last = this.words.at(-1);
    if (last && !/^\s/.test(piece)) last.text += piece;
    else this.words.push({ text: piece.trim(), time, row: this.freeRow(time) });
    const word = this.words.at(-1);
    this.pen.font = this.font;
    this.ends[word.row] = word.time + (this.pen.measureText(word.text).width + 6) / this.scale;
    if (this.words.length > 200) this.words.splice(0, 100);
  }

  freeRow(time) {
    const free = this.ends.findIndex((end) => end <= time);
    return free >= 0 ? free : this.ends.indexOf(Math.min(...this.ends));
  }

  draw() {
    if (!this.width || !this.colours) return;
    const span = this.width / this.scale;
    const paged = this.still.matches;
    const from = paged ? Math.floor(this.now / span) * span : this.now - span;
    const view = { from, to: from + span, x: (time) => (time - from) * this.scale };
    this.pen.clearRect(0, 0, this.width, this.height);
    for (const voice of Object.values(this.voices)) this.drawLane(voice);
    if (this.zero === null) this.drawHint();
    else this.drawAxis(view);
    this.drawOverlap(view);
    for (const voice of Object.values(this.voices)) this.drawVoice(voice, view);
    this.drawWords(view);
    if (paged && this.time) this.drawCursor(view);
  }

  drawLane(voice) {
    this.pen.fillStyle = this.colours["--shade"];
    this.pen.beginPath();
    this.pen.roundRect(0, voice.top, this.width, LANE, 4);
    this.pen.fill();
  }

  drawAxis({ from, to, x }) {
    const bottom = 2 * LANE + GAP + ROWS * ROW + 8;
    this.pen.font = this.font;
    this.pen.textBaseline = "top";
    for (let second = Math.max(0, Math.ceil(from - this.zero)); second + this.zero <= to; second++) {
      const at = Math.round(x(second + this.zero)) + 0.5;
      this.pen.fillStyle = this.colours["--line"];
      this.pen.fillRect(at, 0, 1, bottom);
      if (second % 2) continue;
      this.pen.fillStyle = this.colours["--soft"];
      const text = clockText(second);
      if (at + this.pen.measureText(text).width <= this.width) this.pen.fillText(text, Math.max(0, at), bottom + 2);
    }
  }

  drawHint() {
    this.pen.font = this.font;
    this.pen.textBaseline = "top";
    this.pen.fillStyle = this.colours["--soft"];
    const top = 2 * LANE + GAP + 8;
    this.pen.fillText("Words stand where they are heard.", 0, top);
    this.pen.fillText("Speech at the same time is shaded.", 0, top + ROW);
  }

  bins({ from, to }) {
    return [Math.max(0, Math.floor(from / BIN)), Math.floor(Math.min(to, this.now) / BIN)];
  }

  drawOverlap(view) {
    const { user, agent } = this.voices;
    const [first, last] = this.bins(view);
    let start = null;
    for (let bin = first; bin <= last + 1; bin++) {
      const both = bin <= last && user.speaks(bin) && agent.speaks(bin);
      if (both) start ??= bin;
      else if (start !== null) {
        this.drawBand(view.x(start * BIN), view.x(bin * BIN));
        start = null;
      }
    }
  }

  drawBand(left, right) {
    this.pen.fillStyle = this.pen.strokeStyle = this.colours["--overlap"];
    this.pen.globalAlpha = 0.17;
    this.pen.fillRect(left, 0, right - left, 2 * LANE + GAP);
    this.pen.globalAlpha = 0.7;
    this.pen.setLineDash([3, 3]);
    this.pen.strokeRect(left, 0.5, right - left, 2 * LANE + GAP - 1);
    this.pen.setLineDash([]);
    this.pen.globalAlpha = 1;
  }

  /** As high as the loudest sample of each bin; the root of it, so that soft speech is seen too. */
  drawVoice(voice, view) {
    const [first, last] = this.bins(view);
    const middle = voice.top + LANE / 2;
    this.pen.fillStyle = this.colours[voice.colour];
    let run = []; // points of the upper edge of what is known without a gap
    for (let bin = first; bin <= last + 1; bin++) {
      const peak = bin <= last ? voice.peak(bin) : null;
      if (peak !== null) run.push([view.x((bin + 0.5) * BIN), Math.max(0.75, Math.min(1, peak) ** 0.7 * (LANE / 2 - 4))]);
      else if (run.length) {
        this.drawEdge(run, middle);
        run = [];
      }
    }
  }

  drawEdge(points, middle) {
    this.pen.beginPath();
    for (const [x, half] of points) this.pen.lineTo(x, middle - half);
    for (const [x, half] of points.reverse()) this.pen.lineTo(x, middle + half);
    this.pen.fill();
  }

  drawWords({ from, to, x }) {
    const top = 2 * LANE + GAP + 5;
    this.pen.font = this.font;
    this.pen.textBaseline = "top";
    for (const { text, time, row } of this.words) {
      if (time < from - 3 || time > to) continue;
      const left = x(time);
      this.pen.fillStyle = this.colours["--agent"];
      this.pen.globalAlpha = 0.6;
      this.pen.fillRect(left, 2 * LANE + GAP, 1, 4 + row * ROW);
      this.pen.globalAlpha = 1;
      this.pen.fillStyle = this.colours["--ink"];
      this.pen.fillText(text, left + (row ? 3 : 0), top + row * ROW);
    }
  }

  drawCursor({ x }) {
    this.pen.fillStyle = this.colours["--ink"];
    this.pen.fillRect(x(this.now), 0, 2, 2 * LANE + GAP);
  }
}

/** Seconds as minutes and seconds. */
export function clockText(seconds) {
  return `${Math.floor(seconds / 60)}:${String(Math.floor(seconds) % 60).padStart(2, "0")}`;
}
