// permessage-deflate with clients that nobody here wrote: node's ws, as it is and with a small window, which its zlib insists
// on, and Python's websockets (Debian's package, which localslackirc brings), which asks for one by default. Each sees a
// thin session begin, asks, says and hears, and is told the same, frame by frame, as a client that offers nothing.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { fileURLToPath } from 'node:url';
import WebSocket from 'ws';
import { Flannel } from './lib/flannel.mjs';
import { unique, web } from './lib/person.mjs';
import { Child } from './lib/process.mjs';
import { behaviour } from './lib/report.mjs';
import { Log, within } from './lib/wait.mjs';

const script = fileURLToPath(new URL('compression.py', import.meta.url));
const skip = process.env.E2E_SKIP_LOCALSLACKIRC === '1' && 'E2E_SKIP_LOCALSLACKIRC=1';

// node's ws.
class Node {
  frames = new Log();
  #socket;

  static async connect(url, perMessageDeflate) {
    const client = new Node();
    client.#socket = new WebSocket(url, { perMessageDeflate });
    client.#socket.on('message', (data) => client.frames.add(data.toString()));
    await within(new Promise((resolve, reject) => {
      client.#socket.once('open', resolve);
      client.#socket.once('error', reject);
    }), 'ws connects');
    client.#socket.on('error', (err) => client.frames.add(`error: ${err.message}`));
    return client;
  }

  get agreed() {
    return this.#socket.extensions;
  }

  say(frame) {
    this.#socket.send(frame);
  }

  async close() {
    this.#socket.terminate();
  }
}

// Python's websockets: a line for each frame, in both directions.
class Python {
  frames = new Log();
  agreed;
  #child;

  static async connect(url) {
    const client = new Python();
    client.#child = new Child('websockets', '/usr/bin/python3', [script, url], { stdio: ['pipe', 'pipe', 'pipe'] });
    const first = await client.#child.orExit(client.#child.stdout.next(() => true, 'websockets connects'));
    client.agreed = JSON.parse(first).agreed;
    client.frames = {
      next: async (match, what, options) => {
        const line = client.#child.stdout.next((line) => match(JSON.parse(line).frame ?? ''), what, options);
        return JSON.parse(await client.#child.orExit(line)).frame;
      },
      get all() {
        return client.#child.stdout.all.slice(1).map((line) => JSON.parse(line).frame);
      },
    };
    return client;
  }

  say(frame) {
    this.#child.write(`${frame}\n`);
  }

  async close() {
    await this.#child.stop('SIGKILL');
  }
}

const clients = [
  ['nothing offered', (url) => Node.connect(url, false), ''],
  ['ws', (url) => Node.connect(url, true), 'permessage-deflate'],
  ['ws, with a window of 512 bytes', (url) => Node.connect(url, { serverMaxWindowBits: 9, threshold: 0 }), 'permessage-deflate'],
  ['websockets', (url) => Python.connect(url), 'PerMessageDeflate', skip],
];

test('compression, by clients that were not made for it', { timeout: 300_000 }, async (t) => {
  const server = await Flannel.start();
  t.after(() => server.close());
  const [ann, bob] = server.people('member');
  const api = web(server.api('edge'), ann.token);
  const heard = new Map();

  // What a text is made of decides how well it is compressed: words, and what is not ASCII.
  const long = unique(Array.from({ length: 400 }, (_, i) => `word${i % 37} ünïcödé`).join(' '));

  for (const [name, connect, agreed, skipped] of clients) {
    if (skipped) continue;
    await behaviour(t, name, server, async () => {
      const url = `${server.base('edge').replace('http', 'ws')}/?token=${bob.token}&flannel=3&boot=1`;
      const client = await connect(url);
      try {
        assert.ok(client.agreed.includes(agreed), `agreed on ${client.agreed}`);
        await client.frames.next((frame) => frame.startsWith('{"type":"counts"'), 'boot and counts');
        const boot = client.frames.all.find((frame) => frame.startsWith('{"type":"boot"'));
        assert.equal(JSON.parse(boot).self.id, bob.user);

        // A question that is long enough to be compressed by whoever does that.
        const ids = Object.fromEntries(Array.from({ length: 200 }, (_, i) => [`U0NOBODY${i}`, 0]));
        client.say(JSON.stringify({ id: 7, type: 'query', method: 'users/info', args: { updated_ids: { [ann.user]: 0, ...ids } } }));
        const answer = await client.frames.next((frame) => frame.startsWith('{"reply_to":7,'), 'an answer');
        assert.equal(JSON.parse(answer).results[0].id, ann.user);

        client.say(JSON.stringify({ id: 8, type: 'ping', note: long }));
        const pong = JSON.parse(await client.frames.next((frame) => frame.includes('"reply_to":8'), 'a pong'));
        assert.equal(pong.note, long);

        const { channels } = await api.users.conversations({ types: 'public_channel' });
        const general = channels.find((c) => c.is_general).id;
        const text = `${long} ${name}`;
        await api.chat.postMessage({ channel: general, text });
        const message = JSON.parse(await client.frames.next((frame) => frame.includes(`ünïcödé`) && frame.includes('"event_id"'), 'the message'));
        assert.equal(message.text, text);
        assert.ok(!client.frames.all.some((frame) => frame.startsWith('error:')), client.frames.all.at(-1));
        heard.set(name, { boot, pong });
      } finally {
        await client.close();
      }
    });
  }

  await behaviour(t, 'all are told the same', server, async () => {
    const plain = heard.get('nothing offered');
    for (const [name, { boot, pong }] of heard) {
      // Between two boots, messages were written and read: what tells of them may differ.
      assert.equal(JSON.parse(boot).self.name, JSON.parse(plain.boot).self.name, name);
      assert.deepEqual(JSON.parse(boot).channels.map((c) => c.id), JSON.parse(plain.boot).channels.map((c) => c.id), name);
      assert.equal(pong.note, plain.pong.note, name);
    }
    const metrics = await (await fetch(`${server.base('admin')}/metrics`)).text();
    const count = (metric) => Number(metrics.split('\n').find((line) => line.startsWith(metric))?.split(' ')[1]);
    assert.ok(count('flannel_compression_messages_total{direction="in"}') >= 4, 'questions and pings came compressed');
    const [before, after] = ['plain', 'compressed'].map((form) => count(`flannel_compression_bytes_total{direction="out",form="${form}"}`));
    assert.ok(after < before / 3, `${before} bytes became ${after}`);
  });
});
