// What this page offers as a device: MCP (JSON-RPC 2.0), as the firmware does it. The server asks, the page answers.

const PROTOCOL = "2024-11-05";
const NOT_FOUND = -32601;
const INVALID = -32602;
const FAILED = -32000;

const percent = (description) => ({
  type: "object",
  properties: { [description]: { type: "integer", minimum: 0, maximum: 100 } },
  required: [description],
});
const nothing = { type: "object", properties: {} };

const TOOLS = [
  {
    name: "self.get_device_status",
    description: "The state of this device now: volume of the speaker, brightness of the screen, network. Ask it before a value is changed by some amount.",
    inputSchema: nothing,
  },
  {
    name: "self.audio_speaker.set_volume",
    description: "Set the volume of the speaker, 0 to 100. If the current volume is not known, ask self.get_device_status first.",
    inputSchema: percent("volume"),
  },
  {
    name: "self.screen.set_brightness",
    description: "Set the brightness of the screen, 0 to 100.",
    inputSchema: percent("brightness"),
  },
];

const CAMERA = {
  name: "self.camera.take_photo",
  description: "Take a photo with the camera and look at it. Use it when the user asks what you see, or about something before the camera. Returns the answer to the question.",
  inputSchema: { type: "object", properties: { question: { type: "string", description: "What is asked about the photo" } }, required: ["question"] },
};

export class Refusal extends Error {}

// `body`: status(), setVolume(percent), setBrightness(percent), camera (may it be used), photograph(question) -> text.
// `onCall(name, arguments)` -> `done(result, failed)`: to show it.
export class DeviceTools {
  constructor(body, onCall) {
    this.body = body;
    this.onCall = onCall;
    this.vision = null; // { url, token }: where pictures go, from the server's initialize
  }

  get offered() {
    return this.body.camera ? [...TOOLS, CAMERA] : TOOLS;
  }

  // The answer to one payload, null when none is due.
  async answer({ method, id, params = {} }) {
    if (method === undefined || id === undefined) return null;
    try {
      return { jsonrpc: "2.0", id, result: await this.result(method, params) };
    } catch (error) {
      const code = error instanceof Refusal ? INVALID : error.code === NOT_FOUND ? NOT_FOUND : FAILED;
      return { jsonrpc: "2.0", id, error: { code, message: error.message } };
    }
  }

  async result(method, params) {
    if (method === "initialize") {
      this.vision = params.capabilities?.vision ?? null;
      return { protocolVersion: PROTOCOL, capabilities: { tools: {} }, serverInfo: { name: "browser", version: "1.0" } };
    }
    if (method === "ping") return {};
    if (method === "tools/list") return { tools: this.offered };
    if (method === "tools/call") return this.call(params.name, params.arguments ?? {});
    throw Object.assign(new Error(`Method not implemented: ${method}`), { code: NOT_FOUND });
  }

  async call(name, given) {
    const tool = this.offered.find((each) => each.name === name);
    if (!tool) throw new Refusal(`Unknown tool: ${name}`);
    check(tool.inputSchema, given);
    const done = this.onCall(name, given);
    try {
      const text = await this.run(name, given);
      done(text, false);
      return { content: [{ type: "text", text }], isError: false };
    } catch (error) {
      done(error.message, true);
      throw error;
    }
  }

  async run(name, given) {
    if (name === "self.get_device_status") return JSON.stringify(this.body.status());
    if (name === "self.audio_speaker.set_volume") this.body.setVolume(given.volume);
    else if (name === "self.screen.set_brightness") this.body.setBrightness(given.brightness);
    else return this.body.photograph(given.question, this.vision);
    return "true";
  }
}

function check({ properties, required = [] }, given) {
  for (const name of required) {
    const { type, minimum, maximum } = properties[name];
    const value = given[name];
    if (type === "integer" ? !Number.isInteger(value) : typeof value !== type) throw new Refusal(`Missing valid argument: ${name}`);
    if (value < minimum || value > maximum) throw new Refusal(`Value is out of range: ${name} = ${value}`);
  }
}
