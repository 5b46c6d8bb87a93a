// The form: what the server offers, and what of it is wished.

const NUMBERS = [
  // name of the parameter, label, least, most, step
  ["text_temperature", "Words: temperature", 0, 10, "any"],
  ["text_topk", "Words: top-k", 0, 1000000, 1],
  ["audio_temperature", "Voice: temperature", 0, 10, "any"],
  ["audio_topk", "Voice: top-k", 0, 1000000, 1],
  ["pad_temperature", "Whether to speak: temperature", 0, 10, "any"],
  ["padding_bonus", "Speaks less (+) or more (−)", -100, 100, "any"],
  ["text_seed", "Seed of words", 0, 2 ** 31 - 1, 1],
  ["audio_seed", "Seed of the voice", 0, 2 ** 31 - 1, 1],
];

const get = (id) => document.getElementById(id);

export class Settings {
  constructor(base) {
    this.base = base;
    this.form = get("settings");
    this.info = null;
    this.inputs = Object.fromEntries(NUMBERS.map((row) => [row[0], addNumber(...row)]));
    get("upload").addEventListener("change", () => this.upload());
    this.form.addEventListener("submit", (event) => event.preventDefault());
    const token = new URLSearchParams(location.hash.slice(1)).get("token");
    if (token) {
      get("token").value = token;
      history.replaceState(null, "", location.pathname + location.search); // not to be copied with the address
    }
  }

  /** Show what /api/info tells. */
  offer(info) {
    this.info = info;
    get("token-field").hidden = !info.auth;
    get("token").required = info.auth;
    get("consent-field").hidden = !info.record;
    get("prompt-field").hidden = !info.prompts;
    get("voice-field").hidden = !info.voices.length && !info.upload;
    get("upload-field").hidden = !info.upload;
    const most = info.limits?.text_prompt;
    if (most) get("prompt").maxLength = most;
    get("prompt-help").textContent = `${most ? `At most ${most} characters. ` : ""}Empty: nothing.`;
    const chosen = get("voice").value;
    get("voice").replaceChildren(new Option("the model's own", ""), ...info.voices.map((name) => new Option(name, name)));
    if (info.voices.includes(chosen)) get("voice").value = chosen;
    for (const [name, input] of Object.entries(this.inputs)) {
      const own = info.settings?.[name];
      input.placeholder = own == null ? (name.endsWith("seed") ? "by chance" : "") : String(own);
    }
  }

  get format() {
    return get("format").value;
  }

  /** Query parameters; what is empty is the server's to choose. */
  wishes() {
    const { info } = this;
    const chosen = Object.entries(this.inputs).map(([name, input]) => [name, input.value]);
    return {
      ...Object.fromEntries(chosen),
      text_prompt: info?.prompts ? get("prompt").value.trim() : "",
      voice_prompt: get("voice").value,
      token: info?.auth ? get("token").value : "",
      record: info?.record && get("consent").checked ? 1 : "",
    };
  }

  /** Everything that is wished, to see whether it changed. */
  get fingerprint() {
    return JSON.stringify([this.wishes(), this.format]);
  }

  /** Whether all fields are in order; if not, the first that is not is shown. */
  check() {
    const wrong = this.form.querySelector(":invalid");
    wrong?.closest("details")?.setAttribute("open", "");
    return this.form.reportValidity();
  }

  async upload() {
    const [file] = get("upload").files;
    if (!file) return;
    this.say(`Sending ${file.name}`);
    const body = new FormData();
    body.append("file", file);
    const token = get("token").value;
    const headers = token ? { Authorization: `Bearer ${token}` } : {};
    try {
      const answer = await fetch(new URL("api/voices", this.base), { method: "POST", body, headers });
      const text = await answer.text();
      if (!answer.ok) throw new Error(reason(text) || `the server said ${answer.status}`);
      const { voice } = JSON.parse(text);
      get("voice").add(new Option(`${file.name} (yours)`, voice));
      get("voice").value = voice;
      this.say(`${file.name} is the voice from the next start.`);
      this.form.dispatchEvent(new Event("input"));
    } catch (error) {
      this.say(`Not taken: ${error.message}`, true);
    }
    get("upload").value = "";
  }

  say(text, bad = false) {
    get("upload-help").textContent = text;
    get("upload-help").classList.toggle("bad", bad);
  }
}

/** An error's text: the body, or its `error` if it is JSON. */
function reason(text) {
  try {
    const { error } = JSON.parse(text);
    return error ?? text;
  } catch {
    return text;
  }
}

function addNumber(name, text, min, max, step) {
  const field = document.createElement("div");
  const label = document.createElement("label");
  const input = document.createElement("input");
  label.htmlFor = input.id = name;
  label.textContent = text;
  Object.assign(input, { type: "number", min, max, step, inputMode: min < 0 ? "text" : "decimal" });
  field.append(label, input);
  get("numbers").append(field);
  return input;
}
