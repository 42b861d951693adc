// localslackirc, Debian's gateway from IRC to Slack: a Python program with an HTTP client of its own and the websockets
// library, on one side, and an IRC client (this test) on the other.
//
// How far it allows another host: not at all, its base URL is written in the program and it knows no proxy. It runs
// unmodified, with SSL_CERT_FILE for the certificate and name resolution that finds slack.com here; see
// lib/slackdotcom.mjs and localslackirc/sitecustomize.py. When its websocket breaks it connects again at once, and ends
// with an exception if that fails (systemd starts it again), so a server that goes away is not tested with it.
import assert from 'node:assert/strict';
import { mkdtemp, rm } from 'node:fs/promises';
import net from 'node:net';
import { tmpdir, userInfo } from 'node:os';
import path from 'node:path';
import { createInterface } from 'node:readline';
import { test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { Flannel } from './lib/flannel.mjs';
import { Person, unique } from './lib/person.mjs';
import { Child } from './lib/process.mjs';
import { behaviour } from './lib/report.mjs';
import { SlackDotCom } from './lib/slackdotcom.mjs';
import { Log, until, within } from './lib/wait.mjs';

const here = (name) => fileURLToPath(new URL(name, import.meta.url));
const skip = process.env.E2E_SKIP_LOCALSLACKIRC === '1' && 'E2E_SKIP_LOCALSLACKIRC=1';

// An IRC client as small as one can be.
class Irc {
  lines = new Log();
  #socket;

  static async connect(port) {
    const irc = new Irc();
    irc.#socket = net.connect(port, '127.0.0.1');
    await within(new Promise((resolve, reject) => {
      irc.#socket.once('connect', resolve);
      irc.#socket.once('error', reject);
    }), 'IRC connects');
    irc.#socket.on('error', () => {});
    createInterface({ input: irc.#socket }).on('line', (line) => irc.lines.add(line));
    return irc;
  }

  send(line) {
    this.#socket.write(`${line}\r\n`);
  }

  // login registers and waits for the end of the first channel's names.
  async login(name) {
    this.send(`NICK ${name}`);
    this.send(`USER ${name} 8 * :${name}`);
    await this.has(' 001 ');
  }

  // has resolves with the first line that contains all of these texts.
  has(...texts) {
    return this.lines.next((line) => texts.every((text) => line.includes(text)), `IRC line with ${JSON.stringify(texts)}`);
  }

  // quit leaves, and waits until the gateway has let go.
  async quit() {
    const closed = new Promise((resolve) => this.#socket.once('close', resolve));
    this.send('QUIT');
    await within(closed, 'the gateway hangs up');
  }

  destroy() {
    this.#socket.destroy();
  }
}

// freePort finds a port for a program that cannot be told to choose one.
async function freePort() {
  const server = net.createServer();
  await new Promise((resolve) => server.listen(0, '127.0.0.1', resolve));
  const { port } = server.address();
  await new Promise((resolve) => server.close(resolve));
  return port;
}

for (const target of ['edge', 'backend']) {
  test(`localslackirc at the ${target}`, { timeout: 180_000, skip }, async (t) => {
    const dir = await mkdtemp(path.join(tmpdir(), 'flannel-e2e-irc-'));
    const server = await Flannel.start();
    let slack;
    let alice;
    let gateway;
    let irc;
    t.after(async () => {
      irc?.destroy();
      await alice?.disconnect().catch(() => {});
      await gateway?.stop('SIGKILL').catch(() => {});
      slack?.close();
      await server.close();
      await rm(dir, { recursive: true, force: true });
    });
    slack = await SlackDotCom.start(server.base(target), dir);
    // Bob uses IRC, alice an official client.
    const [a, b, c] = server.people('member');
    alice = new Person(server.api(target), a);
    const bob = { id: b.user, name: b.name };
    await alice.connect();
    const { channel: room } = await alice.web.conversations.create({ name: 'e2e-irc' });
    await alice.web.conversations.invite({ channel: room.id, users: bob.id });
    const { channel: dm } = await alice.web.conversations.open({ users: bob.id });
    await alice.web.chat.postMessage({ channel: dm.id, text: 'hello' });

    const port = await freePort();
    gateway = new Child('localslackirc', 'localslackirc', ['--autojoin', '--debug'], {
      env: {
        PATH: process.env.PATH,
        HOME: dir,
        LANG: 'C.UTF-8',
        TOKEN: b.token,
        PORT: String(port),
        STATUS_FILE: path.join(dir, 'status'),
        // Started by root it becomes "nobody", who may not read this checkout.
        PROCESS_OWNER: userInfo().username,
        PYTHONPATH: here('localslackirc'),
        PYTHONDONTWRITEBYTECODE: '1',
        E2E_SLACK_PORT: String(slack.port),
        SSL_CERT_FILE: slack.ca,
      },
    });
    const tails = { tail: () => `${server.tail()}\n${gateway.tail()}\nslack.com was asked for: ${slack.calls.join(' ')}` };
    const it = (name, run) => behaviour(t, name, tails, run);
    const join = async () => {
      irc = await until(() => Irc.connect(port), 'localslackirc listens', 20_000);
      await gateway.orExit(irc.login(bob.name));
      await gateway.orExit(irc.has(' 366 ', '#e2e-irc'));
    };
    // Both directions work once a message of alice's has come through.
    const settle = () => until(async () => {
      const text = unique('are you there?');
      await alice.web.chat.postMessage({ channel: room.id, text });
      return gateway.orExit(irc.lines.next((line) => line.includes(text), 'alice on IRC', { ms: 2_000 }));
    }, 'events reach IRC', 20_000);

    const joined = await it('logs in and joins the channels', async () => {
      await join();
      await irc.has(' 002 ', server.ready.workspace.name);
      const names = await irc.has(' 353 ', '#e2e-irc');
      assert.ok(names.includes(alice.name) && names.includes(bob.name), names);
      assert.ok(!irc.lines.all.some((line) => line.includes(' 432 ')), 'the nick is the user\'s name');
      assert.ok(slack.calls.includes('users.list') && slack.calls.includes('conversations.list'));
      await settle();
    });

    if (!joined) return;

    await it('receives a message, with mentions', async () => {
      const text = unique('hello IRC');
      await alice.web.chat.postMessage({ channel: room.id, text: `<@${bob.id}>: ${text}` });
      await irc.has(`:${alice.name}!`, 'PRIVMSG #e2e-irc :', `${bob.name}: ${text}`);
    });

    await it('sends a message, with mentions', async () => {
      const text = unique('hello Slack & <friends>');
      irc.send(`PRIVMSG #e2e-irc :${alice.name}: ${text}`);
      const message = await alice.hears('message', (event) => event.user === bob.id && event.channel === room.id);
      assert.equal(message.text, `<@${alice.id}>: ${text.replace('&', '&amp;').replace('<', '&lt;').replace('>', '&gt;')}`);
    });

    await it('shows an edit and a delete', async () => {
      const word = unique('');
      const { ts } = await alice.web.chat.postMessage({ channel: room.id, text: `colour${word}` });
      await irc.has(`colour${word}`);
      await alice.web.chat.update({ channel: room.id, ts, text: `color${word}` });
      await irc.has('PRIVMSG #e2e-irc :s/colour/color/');
      await alice.web.chat.delete({ channel: room.id, ts });
      await irc.has(`[deleted] color${word}`);
    });

    await it('shows a thread as a channel', async () => {
      const head = await alice.web.chat.postMessage({ channel: room.id, text: unique('head') });
      const text = unique('in the thread');
      await alice.web.chat.postMessage({ channel: room.id, thread_ts: head.ts, text });
      const thread = `#t-e2e-irc-${head.ts}`;
      await irc.has(`PRIVMSG ${thread} :${text}`);
      const answer = unique('answer');
      irc.send(`PRIVMSG ${thread} :${answer}`);
      assert.equal((await alice.hearsText(answer)).thread_ts, head.ts);
    });

    await it('talks in a DM', async () => {
      const text = unique('just you');
      await alice.web.chat.postMessage({ channel: dm.id, text });
      await irc.has(`:${alice.name}!`, `PRIVMSG ${bob.name} :${text}`);
      const answer = unique('and you');
      irc.send(`PRIVMSG ${alice.name} :${answer}`);
      assert.equal((await alice.hearsText(answer)).channel, dm.id);
    });

    await it('joins, sets a topic, invites, kicks, goes away', async () => {
      const { channel } = await alice.web.conversations.create({ name: 'e2e-irc-other' });
      irc.send('JOIN #e2e-irc-other');
      await alice.hears('member_joined_channel', (event) => event.channel === channel.id && event.user === bob.id);
      await irc.has(' 366 ', '#e2e-irc-other');
      const topic = unique('topic');
      irc.send(`TOPIC #e2e-irc-other :${topic}`);
      await alice.hears('message', (event) => event.subtype === 'channel_topic' && event.topic === topic);
      irc.send(`INVITE ${c.name} #e2e-irc-other`);
      await alice.hears('member_joined_channel', (event) => event.channel === channel.id && event.user === c.user);
      await irc.has(`:${c.name}!`, 'JOIN :#e2e-irc-other');
      await alice.web.conversations.kick({ channel: channel.id, user: c.user });
      await irc.has(`:${c.name}!`, 'PART #e2e-irc-other');
      irc.send('LIST');
      await irc.has(' 322 ', '#e2e-irc-other');
      await irc.has(' 323 ');
      irc.send('AWAY :lunch');
      await until(async () => (await alice.web.users.getPresence({ user: bob.id })).presence === 'away', 'bob is away');
    });

    await it('catches up on what was said while it was away', async () => {
      await irc.quit();
      const text = unique('while you were out');
      await alice.web.chat.postMessage({ channel: room.id, text });
      irc = await until(() => Irc.connect(port), 'localslackirc listens again', 20_000);
      await gateway.orExit(irc.login(bob.name));
      await gateway.orExit(irc.has('PRIVMSG #e2e-irc :', text));
      await settle();
    });
  });
}
