// The messages of /api/chat: every one is binary, its first byte says what it is.

export const RATE = 24000; // samples a second, both ways
export const HANDSHAKE = 0;
export const SOUND = 1;
export const TEXT = 2;
export const METADATA = 4;
export const ERROR = 5;
export const PING = 6;

const decoder = new TextDecoder();

/** A message: its type and then its bytes. */
export function pack(type, bytes = new Uint8Array()) {
  const message = new Uint8Array(bytes.length + 1);
  message[0] = type;
  message.set(bytes, 1);
  return message;
}

/** The type of a message, and a view of the bytes behind it. */
export function unpack(buffer) {
  const bytes = new Uint8Array(buffer);
  return { type: bytes[0], bytes: bytes.subarray(1) };
}

export const asText = (bytes) => decoder.decode(bytes);

/** A ping carries the time at which it left, so that the answer tells how long the way was. */
export function ping(now) {
  const bytes = new Uint8Array(8);
  new DataView(bytes.buffer).setFloat64(0, now, true);
  return pack(PING, bytes);
}

/** Milliseconds since the ping whose answer this is, or null for an answer to nobody's ping. */
export function sincePing(bytes, now) {
  if (bytes.length !== 8) return null;
  const past = now - new DataView(bytes.buffer, bytes.byteOffset, 8).getFloat64(0, true);
  return past >= 0 && past < 1e6 ? past : null;
}

/** Where the conversation is: beside this page, with what is wished. What is null, undefined or "" is left out. */
export function chatAddress(base, wishes) {
  const address = new URL("api/chat", base);
  address.protocol = address.protocol === "https:" ? "wss:" : "ws:";
  address.search = "";
  for (const [name, value] of Object.entries(wishes)) {
    if (value != null && value !== "") address.searchParams.set(name, value);
  }
  return address;
}

/** Sound as 16 bit little endian, what lies outside -1 to 1 clipped. */
export function toInt16(samples) {
  return Int16Array.from(samples, (value) => Math.max(-32768, Math.min(32767, Math.round(value * 32768))));
}

export function pcmBytes(samples) {
  const numbers = toInt16(samples);
  if (LITTLE) return new Uint8Array(numbers.buffer);
  const bytes = new Uint8Array(2 * numbers.length);
  const view = new DataView(bytes.buffer);
  numbers.forEach((number, index) => view.setInt16(2 * index, number, true));
  return bytes;
}

export function pcmSamples(bytes) {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  return Float32Array.from({ length: bytes.length >> 1 }, (_, index) => view.getInt16(2 * index, true) / 32768);
}

const LITTLE = new Uint8Array(new Uint16Array([1]).buffer)[0] === 1;
