// Sound to the bytes of a message and back: as Ogg Opus where the browser has WebCodecs, or as plain PCM.

import { OggReader, OggWriter, packetMilliseconds } from "./ogg.js";
import { pcmBytes, pcmSamples, RATE } from "./protocol.js";
import { Resampler } from "./resample.js";

const PACKET = RATE / 50; // 20 ms
const ENCODING = {
  codec: "opus",
  sampleRate: RATE,
  numberOfChannels: 1,
  bitrate: 32000,
  opus: { frameDuration: 20000, application: "voip" },
};

/** Whether this browser can write and read Opus by itself. */
export async function canOpus() {
  if (!globalThis.AudioEncoder || !globalThis.AudioDecoder) return false;
  try {
    const [out, back] = await Promise.all([
      AudioEncoder.isConfigSupported(ENCODING),
      AudioDecoder.isConfigSupported({ codec: "opus", sampleRate: 48000, numberOfChannels: 1 }),
    ]);
    return out.supported && back.supported;
  } catch {
    return false;
  }
}

/** What both ends speak: `send(bytes)` is called for what is to go out, `hear(samples)` for what came in. */
export function makeCodec(format, calls) {
  return format === "opus" ? new OpusCodec(calls) : new PcmCodec(calls);
}

/** Sound gathered until there is a whole number of pieces of one length. */
class Gathered {
  constructor(length) {
    this.length = length;
    this.held = new Float32Array();
  }

  *push(samples) {
    const all = new Float32Array(this.held.length + samples.length);
    all.set(this.held);
    all.set(samples, this.held.length);
    let at = 0;
    for (; at + this.length <= all.length; at += this.length) yield all.subarray(at, at + this.length);
    this.held = all.slice(at);
  }
}

class PcmCodec {
  constructor({ send, hear }) {
    this.send = send;
    this.hear = hear;
    this.gathered = new Gathered(PACKET);
  }

  say(samples) {
    for (const piece of this.gathered.push(samples)) this.send(pcmBytes(piece));
  }

  receive(bytes) {
    this.hear(pcmSamples(bytes));
  }

  close() {}
}

class OpusCodec {
  constructor({ send, hear, fail }) {
    this.gathered = new Gathered(PACKET);
    this.writer = new OggWriter();
    this.reader = new OggReader();
    this.began = false;
    this.said = 0; // samples
    this.came = 0; // microseconds
    this.hear = hear;
    this.resampler = null;
    this.encoder = new AudioEncoder({
      error: fail,
      output: (chunk) => {
        const packet = new Uint8Array(chunk.byteLength);
        chunk.copyTo(packet);
        if (!this.began) send(this.writer.head());
        this.began = true;
        send(this.writer.packets([packet], packetMilliseconds(packet)));
      },
    });
    this.encoder.configure(ENCODING);
    this.decoder = new AudioDecoder({ error: fail, output: (sound) => this.decoded(sound) });
    this.decoder.configure({ codec: "opus", sampleRate: 48000, numberOfChannels: 1 });
  }

  say(samples) {
    for (const piece of this.gathered.push(samples)) {
      const timestamp = (this.said / RATE) * 1e6;
      this.said += piece.length;
      const data = new AudioData({
        format: "f32",
        sampleRate: RATE,
        numberOfFrames: piece.length,
        numberOfChannels: 1,
        timestamp,
        data: piece.slice(),
      });
      this.encoder.encode(data);
      data.close();
    }
  }

  receive(bytes) {
    for (const packet of this.reader.push(bytes)) {
      const duration = packetMilliseconds(packet) * 1000;
      this.decoder.decode(new EncodedAudioChunk({ type: "key", timestamp: this.came, duration, data: packet }));
      this.came += duration;
    }
  }

  /** What OpusHead says should be skipped is kept: the server's own codec writes more there than it delays. */
  decoded(sound) {
    const samples = new Float32Array(sound.numberOfFrames);
    sound.copyTo(samples, { planeIndex: 0, format: "f32-planar" });
    if (this.resampler?.from !== sound.sampleRate) this.resampler = new Resampler(sound.sampleRate, RATE);
    sound.close();
    this.hear(this.resampler.push(samples));
  }

  close() {
    for (const half of [this.encoder, this.decoder]) if (half.state !== "closed") half.close();
  }
}
