// Plays Segment's own webhook sender, with real HTTP requests, for the tests.
//
//     node send.cjs < jobs.json > results.json          (run ./install once before)
//
// Standard input is one JSON list of jobs. A job has
//
//     url            where to deliver
//     events         a list of events, or instead of it
//     generate       {"count": 4000, "seed": 1, "start": "2024-01-01T00:00:00Z"} for made-up mobile events of
//                    about 2 KB, the same for the same seed and start, or
//     eventsSource   a JavaScript expression giving the list, for values that JSON cannot carry; it can use
//                    generate({...}) and Segment's createTestEvent({...})
//     batch          true: all events in one request, as a JSON array; otherwise one request per event
//     sharedSecret   signs the requests, if given
//     headers        the operator's own headers, if given
//     method         POST by default; PUT, PATCH
//     echo           false: leave "sent" out of the results
//
// Standard output is one JSON list with a result for each delivery, that is one per batch and one per event
// otherwise, in order:
//
//     job, event     the places of the job in the input and of the event in the job (null for a batch)
//     status         the last HTTP status received, 0 without any answer
//     error          null, or the sender's error as "Name: message"; every status but 2xx gives one
//     attempts       the HTTP requests that the sender made or tried for this delivery, redirects included
//     statuses       the HTTP status of each answer, in order
//     sent           the body as the sender wrote it on the wire (absent where the sender does not tell, which
//                    is when the connection failed or the answer did not end)
//
// The exit status is 0 once every job was played, whatever the answers; 1 or 2 with a message on standard
// error when the sender is not installed or the input is unusable, and then nothing was sent.
'use strict';

const diagnostics = require('diagnostics_channel');

let core, Webhook;
try {
  core = require('@segment/actions-core');
  Webhook = require('@segment/action-destinations/dist/destinations/webhook').default;
} catch (error) {
  console.error(`send.cjs: Segment's sender cannot be loaded, run ./install first (${error.message})`);
  process.exit(1);
}

// Segment's client waits 10 seconds for an answer, but without limit for the end of the answer's body; and with
// Node 20 it never gets there when that body is long: from 16 KB on, depending on how it arrives.
const DEADLINE = 15_000;

// What happens on the wire is watched through Node's diagnostics, which do not touch the requests.
let wire = { attempts: 0, statuses: [] };
diagnostics.subscribe('http.client.request.start', () => wire.attempts++);
diagnostics.subscribe('http.client.response.finish', ({ response }) => wire.statuses.push(response.statusCode));

function isPlainObject(value) {
  return value !== null && typeof value === 'object' && !Array.isArray(value);
}

function randomNumbers(seed) {
  let state = 2166136261;
  for (const char of String(seed)) state = Math.imul(state ^ char.codePointAt(0), 16777619);
  return () => {
    state = (state + 0x6d2b79f5) | 0;
    let mixed = Math.imul(state ^ (state >>> 15), state | 1);
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61);
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 4294967296;
  };
}

function generate({ count, seed = 1, start = '2024-01-01T00:00:00Z' }) {
  const random = randomNumbers(seed);
  const below = (limit) => Math.floor(random() * limit);
  const pick = (list) => list[below(list.length)];
  const hex = (length) => Array.from({ length }, () => below(16).toString(16)).join('');
  const uuid = () => `${hex(8)}-${hex(4)}-4${hex(3)}-a${hex(3)}-${hex(12)}`;
  const words = (number) =>
    Array.from({ length: number }, () => pick(['home', 'cart', 'détail', 'search', 'café', 'profile', '結果', 'offer'])).join(' ');
  const begin = Date.parse(start);
  const writeKey = hex(32);
  const projectId = hex(22);

  return Array.from({ length: count }, (_, index) => {
    const at = (delay) => new Date(begin + index * 1000 + delay).toISOString();
    const android = random() < 0.5;
    const type = pick(['track', 'track', 'track', 'screen', 'identify']);
    const event = {
      anonymousId: uuid(),
      channel: 'mobile',
      context: {
        app: { build: String(below(900)), name: 'Example', namespace: 'com.example.app', version: `4.${below(20)}.${below(10)}` },
        device: android
          ? { id: hex(16), manufacturer: 'Google', model: 'Pixel 8', name: 'shiba', type: 'android' }
          : { id: uuid().toUpperCase(), manufacturer: 'Apple', model: 'iPhone15,3', name: 'iPhone', type: 'ios' },
        instanceId: uuid(),
        ip: `198.51.100.${below(256)}`,
        library: android
          ? { name: 'analytics-kotlin', version: '1.16.3' }
          : { name: 'analytics-swift', version: '1.5.11' },
        locale: pick(['en-GB', 'fr-FR', 'de-DE', 'ja-JP']),
        network: { bluetooth: random() < 0.5, carrier: 'Example Mobile', cellular: random() < 0.5, wifi: random() < 0.5 },
        os: android ? { name: 'Android', version: '14' } : { name: 'iOS', version: '17.4.1' },
        screen: { density: 2.625, height: 2400, width: 1080 },
        timezone: 'Europe/Paris',
        traits: { plan: pick(['free', 'plus']), score: random() },
        userAgent: android ? 'Dalvik/2.1.0 (Linux; U; Android 14; Pixel 8)' : 'Example/4 CFNetwork/1494.0.7 Darwin/23.4.0',
      },
      integrations: {},
      messageId: uuid(),
      originalTimestamp: at(0),
      projectId,
      receivedAt: at(900),
      sentAt: at(700),
      timestamp: at(200),
      type,
      userId: random() < 0.3 ? null : `user-${below(10000)}`,
      version: 2,
      writeKey,
    };
    const details = {
      amount: below(100000) / 100,
      currency: 'EUR',
      notes: words(65),
      products: Array.from({ length: 4 }, () => ({ id: hex(12), name: words(3), price: below(5000) / 100, quantity: 1 + below(4) })),
      path: words(8),
    };
    if (type === 'identify') return { ...event, traits: details };
    if (type === 'screen') return { ...event, name: pick(['Home', 'Cart', 'Profile']), properties: details };
    return { ...event, event: pick(['Product Viewed', 'Order Completed', 'Application Opened']), properties: details };
  });
}

function eventsOf(job) {
  const given = ['events', 'generate', 'eventsSource'].filter((key) => job[key] != null);
  if (given.length !== 1) throw new Error('exactly one of events, generate and eventsSource is needed');
  let events = job.events;
  if (job.generate != null) {
    if (!Number.isInteger(job.generate.count) || job.generate.count < 0) throw new Error('generate.count must be a number of events');
    events = generate(job.generate);
  } else if (job.eventsSource != null) {
    events = new Function('generate', 'createTestEvent', `return (${job.eventsSource}\n)`)(generate, core.createTestEvent);
  }
  // Segment delivers objects only; its mapping silently drops or unwraps anything else.
  if (!Array.isArray(events) || !events.length || !events.every(isPlainObject)) {
    throw new Error('the events must be a list of one or more objects');
  }
  return events;
}

function parseJobs(text) {
  const jobs = JSON.parse(text);
  if (!Array.isArray(jobs)) throw new Error('a list of jobs is needed');
  return jobs.map((job, index) => {
    try {
      if (!isPlainObject(job) || typeof job.url !== 'string') throw new Error('a url is needed');
      return { ...job, events: eventsOf(job) };
    } catch (error) {
      throw new Error(`job ${index}: ${error.message}`);
    }
  });
}

async function deliver(job, events, position) {
  // The test methods fill up an event with made-up fields. So the event travels inside another one, and the
  // mapping takes it out again: what is delivered is what the default mapping '$.' makes of the event itself.
  const carriers = events.map((event) => ({ delivery: event }));
  const input = {
    mapping: {
      data: { '@path': '$.delivery' },
      url: job.url,
      ...(job.method && { method: job.method }),
      ...(job.headers && { headers: job.headers }),
    },
    settings: job.sharedSecret != null ? { sharedSecret: job.sharedSecret } : {},
    useDefaultMappings: true,
  };
  const integration = core.createTestIntegration(Webhook);
  const watched = (wire = { attempts: 0, statuses: [] });

  let timer;
  const deadline = new Promise((_, reject) => {
    timer = setTimeout(() => reject(new Error(`the answer did not end; given up after ${DEADLINE} ms`)), DEADLINE);
  });
  let error = null;
  let options;
  try {
    const responses = await Promise.race([
      job.batch
        ? integration.testBatchAction('send', { ...input, events: carriers })
        : integration.testAction('send', { ...input, event: carriers[0] }),
      deadline,
    ]);
    options = responses[0]?.options;
    if (!options) {
      const reasons = integration.results[0]?.multistatus?.map((entry) => entry.errormessage);
      error = `Error: nothing was sent: ${reasons?.[0] ?? 'no reason given'}`;
    }
  } catch (thrown) {
    options = thrown.options;
    error = `${thrown.name}: ${thrown.message}`;
  } finally {
    clearTimeout(timer);
  }

  return {
    ...position,
    status: watched.statuses.at(-1) ?? 0,
    error,
    attempts: watched.attempts,
    statuses: watched.statuses,
    ...(job.echo !== false && typeof options?.body === 'string' && { sent: options.body }),
  };
}

async function main() {
  const chunks = [];
  for await (const chunk of process.stdin) chunks.push(chunk);

  let jobs;
  try {
    jobs = parseJobs(Buffer.concat(chunks).toString('utf8'));
  } catch (error) {
    console.error(`send.cjs: unusable input: ${error.message}`);
    process.exit(2);
  }

  const results = [];
  for (const [index, job] of jobs.entries()) {
    if (job.batch) {
      results.push(await deliver(job, job.events, { job: index, event: null }));
      continue;
    }
    for (const [place, event] of job.events.entries()) {
      results.push(await deliver(job, [event], { job: index, event: place }));
    }
  }
  process.stdout.write(JSON.stringify(results) + '\n', () => process.exit(0));
}

main();
