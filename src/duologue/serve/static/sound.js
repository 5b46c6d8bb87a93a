// Microphone and loudspeaker: one audio context, whose clock is that of the timeline.

import { RATE } from "./protocol.js";

const WANTED = {
  audio: { echoCancellation: true, noiseSuppression: true, autoGainControl: true, channelCount: { ideal: 1 } },
};

const PATIENCE = 5000; // milliseconds
const SILENT = new Error("the browser has nothing to play on: connect a loudspeaker or headphones");

const REFUSED = {
  NotAllowedError: "the microphone was not allowed: allow it for this page in the browser's address bar",
  NotFoundError: "no microphone was found: plug one in",
  NotReadableError: "the microphone cannot be read: another program may hold it",
};

export class Sound {
  /** `heard({samples, levels})` for the microphone's sound at 24 kHz, `played(report)` for the player's reports. */
  static async open({ heard, played, lost }) {
    if (!isSecureContext || !navigator.mediaDevices) {
      throw new Error("a browser gives the microphone only to pages on https or localhost");
    }
    // Made within the user's gesture, before anything is waited for: else some browsers keep it silent.
    const context = new AudioContext({ latencyHint: "interactive" });
    const sound = new Sound(context);
    try {
      const resumed = context.resume();
      const [stream] = await Promise.all([
        navigator.mediaDevices.getUserMedia(WANTED),
        context.audioWorklet.addModule(new URL("player-worklet.js", import.meta.url)),
        context.audioWorklet.addModule(new URL("microphone-worklet.js", import.meta.url)),
      ]);
      sound.input = stream;
      // Without a device to play on some browsers never begin: nothing would be heard or sent.
      await Promise.race([resumed, new Promise((_, reject) => setTimeout(reject, PATIENCE, SILENT))]);
      sound.wire(stream, heard, played, lost);
      return sound;
    } catch (error) {
      sound.close();
      throw new Error(REFUSED[error.name] ?? `no sound: ${error.message}`);
    }
  }

  constructor(context) {
    this.context = context;
  }

  wire(stream, heard, played, lost) {
    const processorOptions = { rate: RATE };
    this.microphone = new AudioWorkletNode(this.context, "microphone", { processorOptions, outputChannelCount: [1] });
    this.player = new AudioWorkletNode(this.context, "player", {
      processorOptions,
      numberOfInputs: 0,
      outputChannelCount: [2],
    });
    this.microphone.port.onmessage = ({ data }) => heard(data);
    this.player.port.onmessage = ({ data }) => played(data);
    stream.getAudioTracks()[0].onended = lost;
    this.source = this.context.createMediaStreamSource(stream);
    // The microphone's node gives silence; only nodes that lead to the loudspeakers are surely run.
    this.source.connect(this.microphone).connect(this.context.destination);
    this.player.connect(this.context.destination);
  }

  get time() {
    return this.context.currentTime;
  }

  mute(muted) {
    this.microphone.port.postMessage({ muted });
  }

  play(samples) {
    this.player.port.postMessage({ samples });
  }

  /** What waits is not played any more: a new stream begins. */
  clear() {
    this.stream = (this.stream ?? 0) + 1;
    this.player.port.postMessage({ stream: this.stream });
  }

  close() {
    for (const node of [this.microphone, this.player]) node?.port.postMessage({ close: true });
    this.input?.getTracks().forEach((track) => track.stop());
    this.context.close();
  }
}
