// The suite of behaviours: what a user of the official clients relies on. It is written once and knows nothing of edge
// or backend: whatever differs between the two fails in one of them.
import assert from 'node:assert/strict';
import { randomUUID } from 'node:crypto';
import webapi from '@slack/web-api';
import { Person, rtm, unique, web } from './person.mjs';
import { behaviour } from './report.mjs';
import { until, within } from './wait.mjs';

const { ErrorCode } = webapi;

// The rate limit test calls at most this often; a limit that is not met by then is no limit.
const BURST = 3000;

// platformError awaits a rejection with one of the API's own error names and returns the name.
async function platformError(promise, ...names) {
  const err = await promise.then(
    (answer) => assert.fail(`expected ${names.join(' or ')}, got ${JSON.stringify(answer)}`),
    (rejection) => rejection,
  );
  assert.equal(err.code, ErrorCode.PlatformError, `${err.message}`);
  assert.ok(names.includes(err.data.error), `error ${err.data.error}, expected ${names.join(' or ')}`);
  return err.data.error;
}

// behaviours runs the suite against one target ("edge" or "backend") of a server of its own.
export async function behaviours(t, server, target) {
  const api = server.api(target);
  const members = server.people('member');
  assert.ok(members.length >= 5, `the ready line has too few members: ${JSON.stringify(server.ready.tokens)}`);
  const people = members.slice(0, 3).map((member) => new Person(api, member));
  try {
    await suite(t, server, api, people, members.slice(3));
  } finally {
    // While the server still runs: a client that is looking for it cannot be told to stop.
    for (const person of people) await person.disconnect().catch(() => {});
  }
}

async function suite(t, server, api, [alice, bob, carol], [d, e]) {
  // A place for most of the tests: public, alice and bob are in it.
  let room;

  const test = (name, run, timeout) => behaviour(t, name, server, run, timeout);
  // A name for a channel, unique in the run.
  const channelName = (what) => `e2e-${what}-${randomUUID().slice(0, 8)}`;

  const connected = await test('connect', async () => {
    const answer = await alice.connect();
    assert.equal(answer.ok, true);
    assert.equal(answer.self.id, alice.id);
    assert.equal(answer.self.name, alice.name);
    assert.equal(answer.team.id, server.ready.workspace.id);
    assert.equal(answer.team.name, server.ready.workspace.name);
    assert.equal(typeof answer.team.domain, 'string');
    assert.match(answer.url, /^wss?:\/\//);
    // Some clients replace the query, so the ticket must stand in the path.
    assert.ok(new URL(answer.url).pathname.length > 8, `no ticket in the path of ${answer.url}`);
    await Promise.all([bob.connect(), carol.connect()]);

    const auth = await alice.web.auth.test();
    assert.equal(auth.user_id, alice.id);
    assert.equal(auth.team_id, server.ready.workspace.id);
    assert.match(auth.url, /^https?:\/\/.*\/$/);
  });

  if (!connected) return;

  await test('hello', async () => {
    assert.equal(alice.events.all[0].type, 'hello');
    assert.equal(alice.events.all.filter((event) => event.type === 'hello').length, 1);
  });

  await test('ping and pong keep-alive', async () => {
    // An explicit ping: the pong echoes its flat fields.
    const started = Date.now();
    const id = await within(alice.rtm.send('ping', { timestamp: started, note: 'e2e' }), 'ping is sent');
    const pong = await alice.hears('pong', (event) => event.reply_to === id);
    assert.equal(pong.timestamp, started);
    assert.equal(pong.note, 'e2e');
    assert.ok(Date.now() - started < 2_000, `pong after ${Date.now() - started} ms`);

    // The client's own: it would close the socket if its ping stayed unanswered.
    const from = alice.sent.all.length;
    const ping = await alice.sent.next((frame) => frame.type === 'ping', 'the client pings by itself', { from });
    await alice.hears('pong', (event) => event.reply_to === ping.id);
    assert.equal(alice.rtm.connected, true);
  });

  const created = await test('create a channel, invite, be told', async () => {
    const name = channelName('room');
    const created = await alice.web.conversations.create({ name });
    room = created.channel.id;
    assert.match(room, /^C/);
    assert.equal(created.channel.name, name);
    assert.equal(created.channel.name_normalized, name);
    assert.equal(created.channel.is_channel, true);
    assert.equal(created.channel.is_private, false);
    assert.equal(created.channel.creator, alice.id);
    assert.equal(typeof created.channel.topic.value, 'string');
    assert.equal(typeof created.channel.purpose.value, 'string');

    // What was written is there at once, for its writer.
    const info = await alice.web.conversations.info({ channel: room });
    assert.equal(info.channel.name, name);
    assert.equal(info.channel.is_member, true);

    await alice.web.conversations.invite({ channel: room, users: bob.id });
    await bob.hears('channel_joined', (event) => event.channel.id === room);
    await alice.hears('member_joined_channel', (event) => event.channel === room && event.user === bob.id);
    await platformError(alice.web.conversations.invite({ channel: room, users: bob.id }), 'already_in_channel');
    await platformError(alice.web.conversations.create({ name }), 'name_taken');
  });

  if (!created || room === undefined) return;

  await test('send over RTM, receive on a second client', async () => {
    const text = unique('over RTM');
    const { ack } = await alice.sendsOverRtm(text, room);
    assert.equal(ack.ok, true);
    assert.equal(ack.type, undefined, 'an ack has no type');
    assert.equal(ack.text, text);
    assert.match(ack.ts, /^\d{10}\.\d{6}$/);
    const message = await bob.hearsText(text);
    assert.equal(message.ts, ack.ts);
    assert.equal(message.channel, room);
    assert.equal(message.user, alice.id);

    // Acknowledged means that it is there for everybody.
    const { messages } = await bob.web.conversations.history({ channel: room, limit: 1 });
    assert.equal(messages[0].ts, ack.ts);

    // The writer's other sessions hear it too.
    await alice.hearsText(text);

    // A message to nowhere is refused.
    const { nack } = await alice.sendsOverRtm(text, 'C0NOTHERE00');
    assert.equal(nack.ok, false);
    assert.equal(typeof nack.error.code, 'number');
    assert.equal(typeof nack.error.msg, 'string');
  });

  await test('send over HTTP, receive on both clients', async () => {
    // Characters that encoders like to change.
    const text = unique('over HTTP: <https://example.com|x> & "quotes" ünïcödé 🎉 \u2028');
    const posted = await alice.web.chat.postMessage({ channel: room, text });
    assert.equal(posted.channel, room);
    assert.equal(posted.message.text, text);
    assert.equal(posted.message.user, alice.id);
    for (const person of [alice, bob]) {
      const message = await person.hearsText(text);
      assert.equal(message.ts, posted.ts);
      assert.equal(message.user, alice.id);
    }

    // The same message sent again, as after a lost answer, is the same message.
    const id = randomUUID();
    const once = unique('exactly once');
    const first = await alice.web.apiCall('chat.postMessage', { channel: room, text: once, client_msg_id: id });
    const second = await alice.web.apiCall('chat.postMessage', { channel: room, text: once, client_msg_id: id });
    assert.equal(second.ts, first.ts);
    const { messages } = await alice.web.conversations.history({ channel: room, limit: 10 });
    assert.equal(messages.filter((message) => message.text === once).length, 1);

    await platformError(carol.web.chat.postMessage({ channel: room, text }), 'not_in_channel');
    await platformError(alice.web.chat.postMessage({ channel: 'C0NOTHERE00', text }), 'channel_not_found');
    await platformError(alice.web.chat.postMessage({ channel: room, text: '' }), 'no_text');
  });

  await test('typing', async () => {
    const from = alice.events.all.length;
    await within(alice.rtm.sendTyping(room), 'typing is sent');
    await bob.hears('user_typing', (event) => event.channel === room && event.user === alice.id);
    // A fence: once alice hears this, her own typing would have come.
    const text = unique('after typing');
    await bob.web.chat.postMessage({ channel: room, text });
    await alice.hearsText(text);
    const own = alice.events.all.slice(from).filter((ev) => ev.type === 'user_typing' && ev.user === alice.id);
    assert.deepEqual(own, [], 'a typist does not see themself type');
  });

  await test('edit', async () => {
    const before = unique('before');
    const after = unique('after');
    const { ts } = await alice.web.chat.postMessage({ channel: room, text: before });
    const edited = await alice.web.chat.update({ channel: room, ts, text: after });
    assert.equal(edited.ts, ts);
    const event = await bob.hears('message', (ev) => ev.subtype === 'message_changed' && ev.message.ts === ts);
    assert.equal(event.channel, room);
    assert.equal(event.message.text, after);
    assert.equal(event.message.user, alice.id);
    assert.equal(event.message.edited.user, alice.id);
    assert.equal(event.previous_message.text, before);
    assert.notEqual(event.ts, ts, 'the event has a time of its own');
    await platformError(bob.web.chat.update({ channel: room, ts, text: 'no' }), 'cant_update_message');
    await platformError(
      alice.web.chat.update({ channel: room, ts: '1000000000.000001', text: 'no' }),
      'message_not_found',
    );
  });

  await test('delete', async () => {
    const text = unique('to be deleted');
    const { ts } = await alice.web.chat.postMessage({ channel: room, text });
    await platformError(bob.web.chat.delete({ channel: room, ts }), 'cant_delete_message');
    await alice.web.chat.delete({ channel: room, ts });
    const event = await bob.hears('message', (ev) => ev.subtype === 'message_deleted' && ev.deleted_ts === ts);
    assert.equal(event.channel, room);
    assert.equal(event.previous_message.text, text);
    const { messages } = await bob.web.conversations.history({ channel: room, limit: 20 });
    assert.ok(!messages.some((message) => message.ts === ts));
  });

  await test('reaction', async () => {
    const { ts } = await alice.web.chat.postMessage({ channel: room, text: unique('react to this') });
    await bob.web.reactions.add({ channel: room, timestamp: ts, name: 'thumbsup' });
    const added = await alice.hears('reaction_added', (event) => event.item.ts === ts);
    assert.equal(added.user, bob.id);
    assert.equal(added.reaction, 'thumbsup');
    assert.equal(added.item.type, 'message');
    assert.equal(added.item.channel, room);
    assert.equal(added.item_user, alice.id);
    await platformError(bob.web.reactions.add({ channel: room, timestamp: ts, name: 'thumbsup' }), 'already_reacted');

    const got = await alice.web.reactions.get({ channel: room, timestamp: ts });
    const [reaction] = got.message.reactions;
    assert.equal(reaction.name, 'thumbsup');
    assert.equal(reaction.count, 1);
    assert.deepEqual(reaction.users, [bob.id]);

    await bob.web.reactions.remove({ channel: room, timestamp: ts, name: 'thumbsup' });
    await alice.hears('reaction_removed', (event) => event.item.ts === ts && event.user === bob.id);
    await platformError(bob.web.reactions.remove({ channel: room, timestamp: ts, name: 'thumbsup' }), 'no_reaction');
  });

  await test('thread', async () => {
    const head = await alice.web.chat.postMessage({ channel: room, text: unique('head') });
    const text = unique('reply');
    const reply = await bob.web.chat.postMessage({ channel: room, text, thread_ts: head.ts });
    const event = await alice.hearsText(text);
    assert.equal(event.ts, reply.ts);
    assert.equal(event.thread_ts, head.ts);
    const { messages } = await alice.web.conversations.replies({ channel: room, ts: head.ts });
    assert.deepEqual(messages.map((message) => message.ts), [head.ts, reply.ts]);
    assert.equal(messages[0].reply_count, 1);
    // A reply does not stand in the channel.
    const history = await alice.web.conversations.history({ channel: room, limit: 20 });
    assert.ok(!history.messages.some((message) => message.ts === reply.ts));
    assert.ok(history.messages.some((message) => message.ts === head.ts));
  });

  await test('join and leave', async () => {
    const joined = await carol.web.conversations.join({ channel: room });
    assert.equal(joined.channel.id, room);
    await alice.hears('member_joined_channel', (event) => event.channel === room && event.user === carol.id);
    await carol.hears('channel_joined', (event) => event.channel.id === room);
    const heard = unique('carol hears this');
    await alice.web.chat.postMessage({ channel: room, text: heard });
    await carol.hearsText(heard);

    await carol.web.conversations.leave({ channel: room });
    await alice.hears('member_left_channel', (event) => event.channel === room && event.user === carol.id);
    const unheard = unique('carol does not hear this');
    await alice.web.chat.postMessage({ channel: room, text: unheard });
    await bob.hearsText(unheard);
    // A fence on carol's own socket: her echo comes after anything that was sent to her before.
    const id = await within(carol.rtm.send('ping', {}), 'ping is sent');
    await carol.hears('pong', (event) => event.reply_to === id);
    assert.ok(!carol.events.all.some((event) => event.text === unheard), 'a message after leaving');

    // Leaving twice is not an error, it says so.
    const again = await carol.web.conversations.leave({ channel: room });
    assert.equal(again.not_in_channel, true);
  });

  await test('a private channel is its members\'', async () => {
    const { channel } = await alice.web.conversations.create({ name: channelName('private'), is_private: true });
    assert.equal(channel.is_private, true);
    const secret = unique('secret');
    await alice.web.chat.postMessage({ channel: channel.id, text: secret });
    await platformError(carol.web.conversations.info({ channel: channel.id }), 'channel_not_found');
    await platformError(carol.web.conversations.history({ channel: channel.id }), 'channel_not_found');
    await platformError(carol.web.conversations.join({ channel: channel.id }), 'channel_not_found', 'method_not_supported_for_channel_type');
    const listed = await carol.web.conversations.list({ types: 'public_channel,private_channel', limit: 1000 });
    assert.ok(!listed.channels.some((other) => other.id === channel.id));

    await alice.web.conversations.invite({ channel: channel.id, users: carol.id });
    await carol.events.next(
      (event) => ['channel_joined', 'group_joined'].includes(event.type) && event.channel.id === channel.id,
      'carol is told that she was let in',
    );
    const info = await carol.web.conversations.info({ channel: channel.id });
    assert.equal(info.channel.id, channel.id);
    const { members } = await carol.web.conversations.members({ channel: channel.id });
    assert.deepEqual([...members].sort(), [alice.id, carol.id].sort());
    // She hears what is said from now on, and can read what was said.
    const text = unique('let in');
    await alice.web.chat.postMessage({ channel: channel.id, text });
    await carol.hearsText(text);
    assert.ok(!bob.events.all.some((event) => event.text === secret || event.text === text));
    await carol.web.conversations.leave({ channel: channel.id });
  });

  await test('open a DM', async () => {
    const opened = await alice.web.conversations.open({ users: bob.id, return_im: true });
    const dm = opened.channel.id;
    assert.match(dm, /^D/);
    const again = await alice.web.conversations.open({ users: bob.id });
    assert.equal(again.channel.id, dm);
    const text = unique('between us');
    await alice.web.chat.postMessage({ channel: dm, text });
    const message = await bob.hearsText(text);
    assert.equal(message.channel, dm);
    const info = await bob.web.conversations.info({ channel: dm });
    assert.equal(info.channel.is_im, true);
    assert.equal(info.channel.user, alice.id);
    await platformError(carol.web.conversations.history({ channel: dm }), 'channel_not_found');

    // A user id is as good as a channel id for posting.
    const direct = unique('by user id');
    const posted = await bob.web.chat.postMessage({ channel: alice.id, text: direct });
    assert.equal(posted.channel, dm);
    await alice.hearsText(direct);
    assert.ok(!carol.events.all.some((event) => event.channel === dm));
  });

  await test('mark as read', async () => {
    const { ts } = await alice.web.chat.postMessage({ channel: room, text: unique('read me') });
    await bob.web.conversations.mark({ channel: room, ts });
    await bob.hears('channel_marked', (event) => event.channel === room && event.ts === ts);
    const info = await bob.web.conversations.info({ channel: room });
    assert.equal(info.channel.last_read, ts);
  });

  await test('presence_sub', async () => {
    const about = (event) => [event.user, ...(event.users ?? [])].includes(bob.id);
    let from = alice.events.all.length;
    await within(alice.rtm.subscribePresence([bob.id]), 'presence_sub is sent');
    await alice.hears('presence_change', (event) => about(event) && event.presence === 'active', from);
    from = alice.events.all.length;
    await bob.web.users.setPresence({ presence: 'away' });
    await alice.hears('presence_change', (event) => about(event) && event.presence === 'away', from);
    await until(async () => (await alice.web.users.getPresence({ user: bob.id })).presence === 'away', 'bob is away');
    from = alice.events.all.length;
    await bob.web.users.setPresence({ presence: 'auto' });
    await alice.hears('presence_change', (event) => about(event) && event.presence === 'active', from);
  });

  await test('users.list in pages', async () => {
    const ids = [];
    let pages = 0;
    for await (const page of alice.web.paginate('users.list', { limit: 5 })) {
      assert.ok(page.members.length <= 5);
      for (const member of page.members) {
        ids.push(member.id);
        assert.equal(typeof member.profile, 'object', `${member.id} has no profile`);
      }
      pages++;
    }
    assert.equal(new Set(ids).size, ids.length, 'no user comes twice');
    assert.ok(pages >= 3, `${pages} pages`);
    const whole = await alice.web.users.list({});
    assert.deepEqual([...ids].sort(), whole.members.map((member) => member.id).sort());
    for (const { user } of server.ready.tokens) assert.ok(ids.includes(user), `${user} is missing`);
    await platformError(alice.web.users.list({ limit: 5, cursor: 'not a cursor' }), 'invalid_cursor');
  });

  await test('users.info', async () => {
    const { user } = await alice.web.users.info({ user: bob.id });
    assert.equal(user.id, bob.id);
    assert.equal(user.name, bob.name);
    assert.equal(user.team_id, server.ready.workspace.id);
    assert.equal(typeof user.profile.real_name, 'string');
    assert.equal(typeof user.updated, 'number');
    await platformError(alice.web.users.info({ user: 'U0NOTHERE00' }), 'user_not_found');
    // Several at once, as terminal clients ask.
    const many = await alice.web.apiCall('users.info', { users: `${alice.id},${bob.id}` });
    assert.deepEqual(many.users.map((u) => u.id).sort(), [alice.id, bob.id].sort());
  });

  await test('conversations.list, history and members', async () => {
    const channels = [];
    for await (const page of alice.web.paginate('conversations.list', { types: 'public_channel', limit: 3 })) {
      for (const channel of page.channels) {
        channels.push(channel.id);
        assert.equal(channel.is_private, false);
        assert.equal(typeof channel.name_normalized, 'string');
        assert.equal(typeof channel.topic.value, 'string');
        assert.equal(typeof channel.purpose.value, 'string');
      }
    }
    assert.ok(channels.includes(room));
    assert.equal(new Set(channels).size, channels.length);

    const { channel } = await alice.web.conversations.create({ name: channelName('history') });
    const written = [];
    for (let i = 0; i < 7; i++) {
      const { ts } = await alice.web.chat.postMessage({ channel: channel.id, text: `line ${i}` });
      written.push(ts);
    }
    assert.deepEqual([...written].sort(), written, 'timestamps rise');
    const read = [];
    for await (const page of alice.web.paginate('conversations.history', { channel: channel.id, limit: 3 })) {
      assert.ok(page.messages.length <= 3);
      read.push(...page.messages.filter((message) => message.subtype === undefined).map((message) => message.ts));
    }
    assert.deepEqual(read, [...written].reverse(), 'newest first, each once');
    const some = await alice.web.conversations.history({
      channel: channel.id, oldest: written[2], latest: written[4], inclusive: true,
    });
    assert.deepEqual(some.messages.map((message) => message.ts), [written[4], written[3], written[2]]);

    const members = [];
    for await (const page of alice.web.paginate('conversations.members', { channel: room, limit: 1 })) {
      assert.ok(page.members.length <= 1);
      members.push(...page.members);
    }
    assert.deepEqual(members.sort(), [alice.id, bob.id].sort());
  });

  await test('a profile change is seen as user_change', async () => {
    const status = unique('on a boat').slice(0, 40);
    await bob.web.users.profile.set({ profile: { status_text: status, status_emoji: ':boat:' } });
    const event = await alice.hears('user_change', (ev) => ev.user.id === bob.id && ev.user.profile.status_text === status);
    assert.equal(event.user.name, bob.name);
    assert.equal(event.user.profile.status_emoji, ':boat:');
    // Nobody sees an older profile than the one that they have been told of.
    for (const person of [alice, bob]) {
      const { user } = await person.web.users.info({ user: bob.id });
      assert.equal(user.profile.status_text, status);
    }
  });

  await test('invalid token', async () => {
    await platformError(web(api, 'xoxp-not-a-token').auth.test(), 'invalid_auth');
    await platformError(web(api, undefined).auth.test(), 'not_authed');
    await platformError(web(api, `${alice.token}x`).users.list({}), 'invalid_auth');

    const client = rtm(api, 'xoxp-not-a-token');
    const unable = new Promise((resolve) => client.once('unable_to_rtm_start', resolve));
    const disconnected = new Promise((resolve) => client.once('disconnected', resolve));
    client.start().catch(() => {}); // Rejects; the events say why.
    const err = await within(unable, 'unable_to_rtm_start');
    assert.equal(err.data.error, 'invalid_auth');
    await within(disconnected, 'the client gives up');
  });

  await test('revoked token', async () => {
    const token = await server.token(d.user);
    const client = web(api, token);
    assert.equal((await client.auth.test()).user_id, d.user);
    const answer = await client.auth.revoke();
    assert.equal(answer.revoked, true);
    // The revocation reaches every node within a second.
    const error = await until(
      () => client.users.list({}).then(() => '', (err) => err.data?.error),
      'the token is refused',
      2_000,
    );
    assert.ok(['token_revoked', 'invalid_auth'].includes(error), error);
    assert.equal((await web(api, d.token).auth.test()).user_id, d.user, 'the user\'s other token still works');
  });

  await test('rate limit with Retry-After', async () => {
    // A user that nothing else needs: limits are per user and method.
    const client = web(api, e.token);
    let refused;
    for (let calls = 0; calls < BURST && !refused; calls += 25) {
      const results = await Promise.allSettled(Array.from({ length: 25 }, () => client.apiCall('rtm.connect')));
      refused = results.find((result) => result.status === 'rejected')?.reason;
    }
    assert.ok(refused, `no limit after ${BURST} calls`);
    assert.equal(refused.code, ErrorCode.RateLimitedError, refused.message);
    assert.ok(Number.isInteger(refused.retryAfter) && refused.retryAfter >= 1, `Retry-After ${refused.retryAfter}`);

    // As it looks on the wire.
    const raw = await until(async () => {
      const answer = await fetch(`${api}rtm.connect`, {
        method: 'POST', headers: { authorization: `Bearer ${e.token}` }, signal: AbortSignal.timeout(5_000),
      });
      const body = await answer.json();
      return answer.status === 429 && { headers: answer.headers, body };
    }, 'a 429');
    assert.match(raw.headers.get('retry-after'), /^[1-9]\d*$/);
    assert.equal(raw.body.ok, false);
    assert.equal(raw.body.error, 'ratelimited');

    // One user's storm is not another's, nor one method's another's.
    assert.equal((await client.auth.test()).ok, true);
    await alice.web.apiCall('rtm.connect');
  });

  await test('reconnect after the server goes away', async () => {
    const before = unique('before the restart');
    await alice.web.chat.postMessage({ channel: room, text: before });
    await bob.hearsText(before);
    const everybody = [alice, bob, carol];
    const marks = everybody.map((person) => person.ready.all.length);
    const heard = bob.events.all.length;

    const { code } = await server.goAway();
    assert.equal(code, 0, 'SIGTERM ends it in order');
    // Whoever is sent away is told so first.
    await bob.hears('goodbye', () => true, heard);
    await server.comeBack();

    for (const [i, person] of everybody.entries()) {
      await person.ready.next(() => true, `${person.name} is back`, { from: marks[i], ms: 30_000 });
    }
    // The clients work as before, in both directions.
    const from = bob.events.all.length;
    await within(alice.rtm.sendTyping(room), 'typing is sent');
    await bob.hears('user_typing', (event) => event.channel === room && event.user === alice.id, from);
    const after = unique('after the restart');
    const posted = await alice.web.chat.postMessage({ channel: room, text: after });
    assert.equal((await bob.hearsText(after)).ts, posted.ts);
    const { messages } = await bob.web.conversations.history({ channel: room, limit: 2 });
    assert.deepEqual(messages.map((message) => message.text), [after, before], 'nothing was lost');
  }, 120_000);
}
