// What was said, kept in the browser: both sides on the conversation's clock, the agent's words, and the two files.

import { RATE, toInt16 } from "./protocol.js";

const MOST = 3600; // seconds that are kept
const BLOCK = 10 * RATE; // samples of one piece of memory

/** One side: blocks of sound, each from a sample of the clock on. */
class Track {
  constructor() {
    this.blocks = []; // {at, samples: Int16Array, length: samples that are filled}
  }

  add(at, samples) {
    for (let done = 0; done < samples.length; ) {
      const last = this.blocks.at(-1);
      const fits = last && last.at + last.length === at + done && last.length < BLOCK;
      const block = fits ? last : { at: at + done, samples: new Int16Array(BLOCK), length: 0 };
      if (!fits) this.blocks.push(block);
      const part = samples.subarray(done, done + BLOCK - block.length);
      block.samples.set(part, block.length);
      block.length += part.length;
      done += part.length;
    }
  }
}

export class Recording {
  constructor() {
    this.agent = new Track();
    this.user = new Track();
    this.words = []; // {word, start}
    this.sessions = []; // {id, from}
    this.end = 0; // seconds
    this.full = false;
  }

  add(side, at, samples) {
    if (at + samples.length / RATE > MOST) this.full = true;
    else {
      this[side].add(Math.round(at * RATE), toInt16(samples));
      this.end = Math.max(this.end, at + samples.length / RATE);
    }
  }

  /** Pieces with a space before them begin a word, others go on with the last one. */
  addPiece(piece, at) {
    const last = this.words.at(-1);
    if (last && !/^\s/.test(piece)) last.word += piece;
    else this.words.push({ word: piece.trim(), start: at });
  }

  get empty() {
    return !this.agent.blocks.length && !this.user.blocks.length;
  }

  /** A WAV file: left the agent, right the user, 16 bit. */
  wav() {
    const count = Math.ceil(this.end * RATE);
    const file = new DataView(new ArrayBuffer(44 + 4 * count));
    const text = (at, letters) => [...letters].forEach((letter, index) => file.setUint8(at + index, letter.charCodeAt(0)));
    text(0, "RIFF");
    file.setUint32(4, 36 + 4 * count, true);
    text(8, "WAVEfmt ");
    file.setUint32(16, 16, true);
    file.setUint16(20, 1, true); // whole numbers
    file.setUint16(22, 2, true);
    file.setUint32(24, RATE, true);
    file.setUint32(28, 4 * RATE, true);
    file.setUint16(32, 4, true);
    file.setUint16(34, 16, true);
    text(36, "data");
    file.setUint32(40, 4 * count, true);
    [this.agent, this.user].forEach(({ blocks }, channel) => {
      for (const { at, samples, length } of blocks) {
        for (let index = 0; index < length; index++) {
          const place = at + index;
          if (place >= 0 && place < count) file.setInt16(44 + 4 * place + 2 * channel, samples[index], true);
        }
      }
    });
    return new Blob([file], { type: "audio/wav" });
  }

  /** Words with their times on the clock of the WAV file, and `about`: how they came to be. */
  json(about) {
    const words = this.words.map(({ word, start }) => ({ word, start: Math.round(start * 1000) / 1000 }));
    const told = { rate: RATE, channels: ["agent", "user"], seconds: Math.round(this.end * 1000) / 1000 };
    const all = { ...told, agent: { words }, sessions: this.sessions, cut_after: this.full ? MOST : null, ...about };
    return new Blob([JSON.stringify(all, null, 1) + "\n"], { type: "application/json" });
  }
}

/** Let the browser save a file. */
export function save(blob, name) {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(blob);
  link.download = name;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 10000);
}
