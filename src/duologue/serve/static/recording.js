// What was said, kept in the browser: both sides on the conversation's clock, the agent's words, and the two files.

import { RATE, toInt16 } from "./protocol.js";

const MOST = 3600; // seconds that are kept

export class Recording {
  constructor() {
    this.agent = []; // {at: sample on the clock, samples: Int16Array}
    this.user = [];
    this.words = []; // {word, start}
    this.sessions = []; // {id, from}
    this.end = 0; // seconds
    this.full = false;
  }

  add(side, at, samples) {
    if (at + samples.length / RATE > MOST) this.full = true;
    else {
      this[side].push({ at: Math.round(at * RATE), samples: toInt16(samples) });
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
    return !this.agent.length && !this.user.length;
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
    [this.agent, this.user].forEach((chunks, channel) => {
      for (const { at, samples } of chunks) {
        for (let index = 0; index < samples.length; index++) {
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
