// Ogg for Opus (RFC 3533, RFC 7845): just what a live stream of one voice needs. Bytes come in pieces of any size.

const MARK = [0x4f, 0x67, 0x67, 0x53]; // OggS
const GRANULE_RATE = 48; // granules count samples at 48 kHz, whatever the sound's own rate
const LARGEST = 255 * 255 + 27 + 255; // bytes of a page

const TABLE = Uint32Array.from({ length: 256 }, (_, index) => {
  let value = index << 24;
  for (let bit = 0; bit < 8; bit++) value = (value << 1) ^ (value & 0x80000000 ? 0x04c11db7 : 0);
  return value;
});

/** The checksum of a page whose own checksum is zero. */
function checksum(bytes) {
  let sum = 0;
  for (const byte of bytes) sum = (sum << 8) ^ TABLE[((sum >>> 24) ^ byte) & 255];
  return sum >>> 0;
}

/** Makes pages; every call gives whole ones. */
export class OggWriter {
  constructor({ rate = 24000, preSkip = 312, serial = 1 } = {}) {
    this.rate = rate;
    this.preSkip = preSkip;
    this.serial = serial;
    this.number = 0;
    this.granule = 0;
  }

  /** OpusHead and OpusTags, a page each: what a stream begins with. */
  head() {
    const head = new Uint8Array(19);
    const view = new DataView(head.buffer);
    head.set(ascii("OpusHead"));
    head[8] = 1; // version
    head[9] = 1; // channels
    view.setUint16(10, this.preSkip, true);
    view.setUint32(12, this.rate, true);
    const vendor = ascii("duologue");
    const tags = new Uint8Array(16 + vendor.length);
    tags.set(ascii("OpusTags"));
    new DataView(tags.buffer).setUint32(8, vendor.length, true);
    tags.set(vendor, 12);
    return joined(this.page([head], 2), this.page([tags], 0));
  }

  /** A page of packets that together last so many milliseconds. */
  packets(packets, milliseconds) {
    this.granule += milliseconds * GRANULE_RATE;
    return this.page(packets, 0);
  }

  page(packets, flags) {
    const lacing = packets.flatMap((packet) => [...Array(Math.floor(packet.length / 255)).fill(255), packet.length % 255]);
    if (lacing.length > 255) throw new RangeError("too much for one page");
    const start = 27 + lacing.length;
    const bytes = new Uint8Array(start + packets.reduce((sum, packet) => sum + packet.length, 0));
    const view = new DataView(bytes.buffer);
    bytes.set(MARK);
    bytes[5] = flags;
    view.setBigInt64(6, BigInt(Math.round(this.granule)), true);
    view.setUint32(14, this.serial, true);
    view.setUint32(18, this.number++, true);
    bytes[26] = lacing.length;
    bytes.set(lacing, 27);
    let at = start;
    for (const packet of packets) {
      bytes.set(packet, at);
      at += packet.length;
    }
    view.setUint32(22, checksum(bytes), true);
    return bytes;
  }
}

/** Takes bytes in pieces of any size and gives packets. Pages that are damaged are left out and counted. */
export class OggReader {
  constructor() {
    this.held = new Uint8Array();
    this.part = new Uint8Array(); // of a packet that goes on in the next page
    this.damaged = 0;
    this.head = null; // {channels, preSkip, rate} once OpusHead was read
  }

  /** The sound's packets among the bytes so far; headers are kept to itself. */
  push(bytes) {
    this.held = joined(this.held, bytes);
    const found = [];
    for (;;) {
      const start = findMark(this.held);
      if (start > 0) this.held = this.held.subarray(start);
      const size = pageSize(this.held);
      if (size === null || this.held.length < size) return found;
      const page = this.held.slice(0, size);
      if (whole(page)) {
        this.held = this.held.subarray(size);
        for (const packet of this.take(page)) if (!this.header(packet)) found.push(packet);
      } else {
        this.damaged += 1;
        this.part = new Uint8Array();
        this.held = this.held.subarray(4); // look for the next mark
      }
    }
  }

  take(page) {
    const packets = [];
    if (!(page[5] & 1)) this.part = new Uint8Array();
    let at = 27 + page[26];
    for (const lace of page.subarray(27, at)) {
      this.part = joined(this.part, page.subarray(at, at + lace));
      at += lace;
      if (lace === 255) continue;
      packets.push(this.part);
      this.part = new Uint8Array();
    }
    return packets;
  }

  header(packet) {
    const name = String.fromCharCode(...packet.subarray(0, 8));
    if (name === "OpusHead" && packet.length >= 19) {
      const view = new DataView(packet.buffer, packet.byteOffset);
      this.head = { channels: packet[9], preSkip: view.getUint16(10, true), rate: view.getUint32(12, true) };
    }
    return name === "OpusHead" || name === "OpusTags";
  }
}

/** Where the next page may begin; the end, less what may be the beginning of a mark, if nowhere. */
function findMark(bytes) {
  for (let at = 0; at < bytes.length; at++) {
    if (MARK.every((byte, index) => at + index >= bytes.length || bytes[at + index] === byte)) return at;
  }
  return bytes.length;
}

function pageSize(bytes) {
  if (bytes.length < 27 || bytes.length < 27 + bytes[26]) return null;
  const size = bytes.subarray(27, 27 + bytes[26]).reduce((sum, lace) => sum + lace, 27 + bytes[26]);
  return Math.min(size, LARGEST);
}

function whole(page) {
  const view = new DataView(page.buffer, page.byteOffset);
  const told = view.getUint32(22, true);
  const bare = page.slice();
  bare.fill(0, 22, 26);
  return page[4] === 0 && checksum(bare) === told;
}

function joined(first, second) {
  const both = new Uint8Array(first.length + second.length);
  both.set(first);
  both.set(second, first.length);
  return both;
}

const ascii = (text) => Uint8Array.from(text, (letter) => letter.charCodeAt(0));

/** Milliseconds that an Opus packet lasts (RFC 6716, section 3.1). */
export function packetMilliseconds(packet) {
  const config = packet[0] >> 3;
  const frame = config < 12 ? [10, 20, 40, 60][config % 4] : config < 16 ? [10, 20][config % 2] : [2.5, 5, 10, 20][config % 4];
  const code = packet[0] & 3;
  return frame * (code === 0 ? 1 : code === 3 ? packet[1] & 63 : 2);
}
