// The agent's words as text: one paragraph for what is said in one go. Screen readers are told whole paragraphs, once
// they are over, not every piece.

import { clockText } from "./timeline.js";

const PAUSE = 1.2; // seconds without a word that end a paragraph
const KEPT = 20; // paragraphs that a screen reader's log keeps

export class Transcript {
  constructor(list, empty, log) {
    this.list = list;
    this.empty = empty;
    this.log = log;
    this.text = null; // of the paragraph that goes on
    this.last = 0; // when its last piece was heard
  }

  clear() {
    this.list.replaceChildren(this.empty);
    this.empty.hidden = false;
    this.log.replaceChildren();
    this.text = null;
  }

  /** A piece, heard at a second of the conversation's clock. */
  add(piece, at) {
    if (this.text && at - this.last > PAUSE && /^\s/.test(piece)) this.close();
    if (!this.text) this.begin(at);
    this.text.data = (this.text.data + piece).trimStart();
    this.last = at;
    const { scrollTop, clientHeight, scrollHeight } = this.list;
    if (scrollHeight - scrollTop - clientHeight < 60) this.list.scrollTop = scrollHeight;
  }

  begin(at) {
    this.empty.hidden = true;
    const line = document.createElement("p");
    const time = document.createElement("time");
    time.textContent = clockText(at);
    const words = document.createElement("span");
    this.text = document.createTextNode("");
    words.append(this.text);
    line.append(time, words);
    this.list.append(line);
  }

  /** Nothing was said for a while: the paragraph is over. */
  clock(now) {
    if (this.text && now - this.last > PAUSE) this.close();
  }

  close() {
    if (!this.text) return;
    const line = document.createElement("p");
    line.textContent = this.text.data;
    this.log.append(line);
    if (this.log.children.length > KEPT) this.log.firstChild.remove();
    this.text = null;
  }

  /** A new conversation begins below. */
  rule() {
    this.close();
    this.list.append(document.createElement("hr"));
  }
}
