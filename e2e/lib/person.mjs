// A user with the official clients: @slack/web-api for calls, @slack/rtm-api for the socket, both unmodified.
import { randomUUID } from 'node:crypto';
import { fileURLToPath } from 'node:url';
import rtmapi from '@slack/rtm-api';
import webapi from '@slack/web-api';
import { output } from './process.mjs';
import { Log, within } from './wait.mjs';

const { RTMClient } = rtmapi;
const { WebClient } = webapi;

// The clients log expected failures too; what matters comes back as an error. E2E_DEBUG=1 shows what they say.
const say = process.env.E2E_DEBUG === '1' ? console.error : () => {};
const logger = { debug: say, info: say, warn: say, error: say, setLevel() {}, getLevel: () => 'debug', setName() {} };

export function web(api, token) {
  return new WebClient(token, {
    slackApiUrl: api,
    logger,
    timeout: 10_000,
    // A test wants the first answer, not the tenth attempt's.
    retryConfig: { retries: 0 },
    rejectRateLimitedCalls: true,
  });
}

export function rtm(api, token, options = {}) {
  const client = new RTMClient(token, {
    slackApiUrl: api,
    logger,
    // Without its default of 2 s of waiting for a reply from before the connection, which a first connection never has.
    replyAckOnReconnectTimeout: 50,
    // Keep-alive at work within a test's time. The default is 30 s.
    clientPingTimeout: 2_000,
    serverPongTimeout: 1_900,
    // Looks for a server that went away often enough to find it soon, and for long enough (a minute) to find it at all.
    retryConfig: { retries: 150, factor: 1, minTimeout: 200, maxTimeout: 400 },
    ...options,
  });
  // eventemitter3 does not throw on "error" without a listener, but says nothing either.
  client.on('error', () => {});
  return client;
}

// unique returns a text that nothing else in the run has.
export function unique(text) {
  return `${text} ${randomUUID()}`;
}

export class Person {
  // events is every frame that the socket brought.
  events = new Log();
  // sent is every frame that the client sent.
  sent = new Log();
  // ready counts how often the client became ready to send.
  ready = new Log();

  constructor(api, { user, name, token }) {
    this.id = user;
    this.name = name;
    this.token = token;
    this.api = api;
    this.web = web(api, token);
    this.rtm = rtm(api, token);
    this.rtm.on('slack_event', (_, event) => this.events.add(event));
    this.rtm.on('outgoing_message', (frame) => this.sent.add(frame));
    this.rtm.on('ready', () => this.ready.add('ready'));
  }

  // connect opens the socket and returns what rtm.connect answered.
  async connect() {
    const times = this.ready.all.length;
    const answer = await within(this.rtm.start(), `${this.name} connects`);
    await this.ready.next(() => true, `${this.name} is ready`, { from: times });
    return answer;
  }

  // disconnect ends the session in whatever state it is.
  async disconnect() {
    await within(this.rtm.disconnect(), `${this.name} disconnects`, 2_000);
  }

  // sendsOverRtm sends a message over another socket of this user and returns {ack} or {nack}; see rtm-send.mjs.
  async sendsOverRtm(text, channel) {
    const script = fileURLToPath(new URL('rtm-send.mjs', import.meta.url));
    return JSON.parse(await output(process.execPath, [script, this.api, this.token, channel, text]));
  }

  // hears resolves with the first event of a type for which match is true.
  hears(type, match, from = 0) {
    return this.events.next((e) => e.type === type && match(e), `${this.name} hears ${type}`, { from });
  }

  // hearsText resolves with the message that has exactly this text.
  hearsText(text) {
    return this.hears('message', (e) => e.subtype === undefined && e.text === text);
  }
}
