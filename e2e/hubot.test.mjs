// Hubot with hubot-slack, the adapter of thousands of bots, on @slack/client 3 of 2017: another websocket library and
// another HTTP library than the SDKs of today.
//
// How far it allows another host: HUBOT_SLACK_RTM_CLIENT_OPTS takes slackAPIUrl for the RTM client, but its web client
// is made without options and always calls https://slack.com/api/. So it runs unmodified behind https_proxy, which both
// its HTTP library and its websocket honour, with NODE_EXTRA_CA_CERTS for the certificate; see lib/slackdotcom.mjs.
// When its socket closes, the adapter ends the process (exit code 1) by design, so there is no reconnecting to test.
import assert from 'node:assert/strict';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { Flannel } from './lib/flannel.mjs';
import { Person, unique } from './lib/person.mjs';
import { Child } from './lib/process.mjs';
import { behaviour } from './lib/report.mjs';
import { SlackDotCom } from './lib/slackdotcom.mjs';
import { until } from './lib/wait.mjs';

const here = (name) => fileURLToPath(new URL(name, import.meta.url));
const randomWord = () => unique('').trim();

for (const target of ['edge', 'backend']) {
  test(`hubot-slack at the ${target}`, { timeout: 180_000 }, async (t) => {
    const dir = await mkdtemp(path.join(tmpdir(), 'flannel-e2e-hubot-'));
    const server = await Flannel.start();
    let slack;
    let alice;
    let hubot;
    t.after(async () => {
      await alice?.disconnect().catch(() => {});
      await hubot?.stop('SIGKILL').catch(() => {});
      slack?.close();
      await server.close();
      await rm(dir, { recursive: true, force: true });
    });
    slack = await SlackDotCom.start(server.base(target), dir);
    const [a, b] = server.people('member');
    const [bot] = server.people('bot');
    alice = new Person(server.api(target), a);
    await alice.connect();
    const created = await alice.web.conversations.create({ name: 'e2e-hubot' });
    const room = created.channel.id;
    await alice.web.conversations.invite({ channel: room, users: bot.user });

    // says resolves when the bot says exactly this in the channel.
    const says = (text, channel = room) =>
      alice.hears('message', (event) => event.text === text && event.user === bot.user && event.channel === channel);
    const ask = (text) => alice.web.chat.postMessage({ channel: room, text: `<@${bot.user}> ${text}` });
    const tails = { tail: () => `${server.tail()}\n${hubot?.tail() ?? ''}` };
    const it = (name, run) => behaviour(t, name, tails, run);

    const loggedIn = await it('logs in', async () => {
      hubot = new Child('hubot', process.execPath, [
        here('node_modules/.bin/coffee'), here('node_modules/hubot/bin/hubot'), '--adapter', 'slack', '--disable-httpd',
      ], {
        cwd: here('hubot'),
        env: {
          PATH: process.env.PATH,
          HOME: dir,
          HUBOT_SLACK_TOKEN: bot.token,
          HUBOT_LOG_LEVEL: 'debug',
          // A small page, so that the list of users comes in several.
          API_PAGE_SIZE: '5',
          https_proxy: slack.proxy,
          NODE_EXTRA_CA_CERTS: slack.ca,
        },
      });
      await hubot.orExit(
        hubot.stdout.next((line) => line.includes('Connected to Slack RTM'), 'hubot connects', { ms: 30_000 }),
      );
      assert.ok(slack.calls.includes('rtm.connect'));
    });

    if (!loggedIn) return;

    const answered = await it('answers a mention', async () => {
      // Scripts are loaded after the connection, so the first question may come too early.
      await until(async () => {
        const word = randomWord();
        await ask(`ping ${word}`);
        return hubot.orExit(alice.events.next((event) => event.text === `pong ${word}` && event.user === bot.user, 'pong', { ms: 2_000 }));
      }, 'the first answer', 30_000);
      const word = randomWord();
      await ask(`reply ${word}`);
      await says(`<@${alice.id}>: replied ${word}`);
      await ask(`who am i ${word}`);
      await says(`you are ${alice.name} ${word}`);
    });

    if (!answered) return;

    await it('has loaded all users, page by page', async () => {
      const { members } = await alice.web.users.list({});
      await until(async () => {
        const { ts } = await ask('how many users');
        const answer = await alice.events.next(
          (event) => event.text?.startsWith('users: ') && event.ts > ts, 'a number of users', { ms: 2_000 });
        return Number(answer.text.slice('users: '.length)) >= members.length;
      }, 'hubot knows all users', 30_000);
      assert.ok(slack.calls.filter((method) => method === 'users.list').length >= 2, 'in several pages');
    });

    await it('answers in the thread', async () => {
      const word = randomWord();
      const head = await alice.web.chat.postMessage({ channel: room, text: 'a thread' });
      await alice.web.chat.postMessage({ channel: room, thread_ts: head.ts, text: `<@${bot.user}> ping ${word}` });
      assert.equal((await says(`pong ${word}`)).thread_ts, head.ts);
    });

    await it('answers in a DM without being named', async () => {
      const word = randomWord();
      const { channel } = await alice.web.conversations.open({ users: bot.user });
      await alice.web.chat.postMessage({ channel: channel.id, text: `ping ${word}` });
      await says(`pong ${word}`, channel.id);
    });

    await it('sets a topic and hears of it', async () => {
      const word = randomWord();
      await ask(`set topic ${word}`);
      await alice.hears('message', (event) => event.subtype === 'channel_topic' && event.topic === `topic ${word}`);
      // Its own changes it ignores; somebody else's it hears.
      await alice.web.conversations.setTopic({ channel: room, topic: `by alice ${word}` });
      await says(`heard by alice ${word}`);
    });

    await it('sees reactions', async () => {
      const { ts } = await alice.web.chat.postMessage({ channel: room, text: 'react' });
      await alice.web.reactions.add({ channel: room, timestamp: ts, name: 'tada' });
      await says(`added tada by ${alice.id}`);
      await alice.web.reactions.remove({ channel: room, timestamp: ts, name: 'tada' });
      await says(`removed tada by ${alice.id}`);
    });

    await it('sees who comes and goes', async () => {
      await alice.web.conversations.invite({ channel: room, users: b.user });
      await says(`welcome ${b.user}`);
      await alice.web.conversations.kick({ channel: room, user: b.user });
      await says(`goodbye ${b.user}`);
    });

    await it('wanted no other host, and logged no error', async () => {
      assert.deepEqual(slack.strangers, []);
      const errors = hubot.stdout.all.filter((line) => /\bERROR\b|error:/.test(line));
      assert.deepEqual(errors, []);
    });
  });
}
