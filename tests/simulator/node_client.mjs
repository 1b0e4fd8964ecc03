// The real `openai` package of npm asks a simulator: node node_client.mjs BASE_URL SCENARIO
// Prints what came of the scenario as JSON.
import OpenAI from "openai";

const [baseURL, scenario] = process.argv.slice(2);
const client = new OpenAI({ apiKey: "any-key-at-all", baseURL, maxRetries: 0 });
const chat = client.chat.completions;
const messages = [{ role: "user", content: "Top 3 things to do in NYC?" }];
const asked = { model: "Claude-Sonnet-4.5", messages };
const parameters = {
  type: "object",
  properties: { city: { enum: ["Oslo"] } },
  required: ["city"],
};

async function failure(promise) {
  const error = await promise.then(
    () => null,
    (reason) => reason,
  );
  return [error?.constructor.name, error?.status ?? null, error?.code ?? null];
}

async function text(stream, between = async () => {}) {
  let joined = "";
  for await (const chunk of stream) {
    await between();
    joined += chunk.choices[0]?.delta.content ?? "";
  }
  return joined;
}

const scenarios = {
  async stream() {
    const whole = (await chat.create(asked)).choices[0].message.content;
    return (await text(await chat.create({ ...asked, stream: true }))) === whole;
  },
  async tools() {
    const cities = [];
    const look = async ({ city }) => `4 degrees in ${cities.push(city) && city}`;
    const tool = { name: "look", description: "The weather.", parameters, parse: JSON.parse };
    const tools = [{ type: "function", function: { ...tool, function: look } }];
    const answer = await chat.runTools({ ...asked, tools }).finalContent();
    return [cities, answer.includes('The tools told: "4 degrees in Oslo".')];
  },
  async structured() {
    const json_schema = { name: "city", strict: true, schema: parameters };
    const response_format = { type: "json_schema", json_schema };
    const answer = await chat.create({ ...asked, response_format });
    return JSON.parse(answer.choices[0].message.content);
  },
  async prompted() {
    const content = `Answer in JSON that fits ${JSON.stringify(parameters)}`;
    const system = [{ role: "system", content }, ...messages];
    const response_format = { type: "json_object" };
    const answer = await chat.create({ ...asked, messages: system, response_format });
    return JSON.parse(answer.choices[0].message.content);
  },
  async errors() {
    return [
      await failure(chat.create({ ...asked, model: "Nobody" })),
      await failure(chat.create({ ...asked, seed: 7 })),
      await failure(client.responses.create({ model: "GPT-5.2", input: "hi" })),
      await failure(client.models.retrieve("nobody")),
    ];
  },
  async models() {
    const listed = [];
    for await (const model of client.models.list()) listed.push(model.id);
    const one = await client.models.retrieve("grok-4");
    return [listed.includes(one.id), one.metadata.display_name];
  },
  async head() {
    const statuses = new Set();
    const head = async () => statuses.add((await fetch(`${baseURL}/models`, { method: "HEAD" })).status);
    const streamed = await text(await chat.create({ ...asked, stream: true }), head);
    const whole = (await chat.create(asked)).choices[0].message.content;
    return [[...statuses], streamed === whole];
  },
  async refused() {
    return await failure(chat.create(asked));
  },
  async again() {
    const answer = await chat.create(asked, { maxRetries: 2 });
    return answer.choices[0].finish_reason;
  },
};

console.log(JSON.stringify(await scenarios[scenario]()));
