// The edge cannot be told from the backend: the same call with the same token has the same answer from both.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { Flannel } from './lib/flannel.mjs';
import { web } from './lib/person.mjs';
import { behaviour } from './lib/report.mjs';

// call returns status and body of one call, with what may differ taken out: cursors are opaque and each side's own, a
// server may name itself, and two answers may fall into two seconds.
async function call(server, target, token, method, args) {
  const answer = await fetch(`${server.api(target)}${method}`, {
    method: 'POST',
    headers: { 'content-type': 'application/x-www-form-urlencoded', authorization: `Bearer ${token}` },
    body: new URLSearchParams(args),
    signal: AbortSignal.timeout(10_000),
  });
  const text = await answer.text();
  assert.ok(!/\\u00(3c|3e|26)/i.test(text), `${method}: < > & are escaped`);
  const body = JSON.parse(text.replaceAll(server.base(target), 'http://target'));
  if (body.response_metadata?.next_cursor) body.response_metadata.next_cursor = 'more';
  // Of users it is the time of the answer; of emoji it is that of the last change, which must be the same.
  if (Math.abs(body.cache_ts - Date.now() / 1000) < 15) body.cache_ts = 'now';
  return { status: answer.status, body };
}

test('the edge answers what the backend answers', { timeout: 300_000 }, async (t) => {
  const server = await Flannel.start();
  t.after(() => server.close());
  const [member, other] = server.people('member');
  const [guest] = server.people('guest');
  const [bot] = server.people('bot');
  const [admin] = server.people('admin');
  const backend = web(server.api('backend'), member.token);
  const { channels } = await backend.conversations.list({ limit: 1000 });
  const joined = channels.find((channel) => channel.is_member);
  assert.ok(joined, 'the first member is in no channel');
  const { user: botUser } = await backend.users.info({ user: bot.user });
  const hidden = await web(server.api('backend'), other.token).conversations.create({
    name: 'e2e-hidden', is_private: true,
  });

  const reads = [
    ['api.test', {}],
    ['auth.test', {}],
    ['team.info', {}],
    ['users.info', { user: other.user }],
    ['users.info', { users: `${other.user},${bot.user},U0NOTHERE00` }],
    ['users.info', { user: 'U0NOTHERE00' }],
    ['users.info', {}],
    ['users.list', {}],
    ['users.list', { limit: 5 }],
    ['users.list', { limit: -1 }],
    ['users.list', { cursor: 'bogus' }],
    ['users.conversations', {}],
    ['users.conversations', { user: other.user, types: 'public_channel', limit: 2 }],
    ['users.getPresence', { user: other.user }],
    ['users.profile.get', { user: other.user }],
    ['bots.info', { bot: botUser.profile.bot_id }],
    ['bots.info', { bot: 'B0NOTHERE00' }],
    ['emoji.list', {}],
    ['usergroups.list', {}],
    ['conversations.list', {}],
    ['conversations.list', { types: 'public_channel,private_channel,mpim,im', limit: 1000 }],
    ['conversations.list', { types: 'im' }],
    ['conversations.list', { exclude_archived: 'True', limit: 2 }],
    ['conversations.list', { types: 'nonsense' }],
    ['conversations.info', { channel: joined.id }],
    ['conversations.info', { channel: joined.id, include_num_members: 'true' }],
    ['conversations.info', { channel: hidden.channel.id }],
    ['conversations.info', { channel: 'C0NOTHERE00' }],
    ['conversations.info', { channel: '../etc' }],
    ['conversations.members', { channel: joined.id }],
    ['conversations.members', { channel: joined.id, limit: 1 }],
    ['conversations.members', { channel: hidden.channel.id }],
    ['conversations.history', { channel: joined.id, limit: 3 }],
    ['conversations.history', { channel: joined.id, limit: 3, cached_latest_updates: '{}' }],
    ['client.userBoot', {}],
    ['client.counts', {}],
    ['no.such.method', {}],
  ];
  const callers = [
    ['a member', member.token],
    ['an admin', admin.token],
    ['a guest', guest.token],
    ['a bot', bot.token],
    ['nobody', 'xoxp-nobody'],
  ];
  for (const [who, token] of callers) {
    await behaviour(t, `to ${who}`, server, async () => {
      for (const [method, args] of reads) {
        const label = `${method} ${JSON.stringify(args)}`;
        // The second answer of the edge may come from its cache, so it counts as well.
        const want = await call(server, 'backend', token, method, args);
        assert.deepEqual(await call(server, 'edge', token, method, args), want, `${label}, cold`);
        assert.deepEqual(await call(server, 'edge', token, method, args), want, `${label}, warm`);
      }
    });
  }

  await behaviour(t, 'by every way of sending arguments and token', server, async () => {
    const args = { channel: joined.id, limit: '2' };
    const query = new URLSearchParams(args);
    const bearer = { authorization: `Bearer ${member.token}` };
    const form = new FormData();
    for (const [name, value] of Object.entries({ ...args, token: member.token })) form.append(name, value);
    const ways = {
      'GET with header': [`?${query}`, { headers: bearer }],
      'GET with token in the query': [`?${query}&token=${encodeURIComponent(member.token)}`, {}],
      'POST form with token in the form': ['', { method: 'POST', body: new URLSearchParams({ ...args, token: member.token }) }],
      'POST multipart': ['', { method: 'POST', body: form }],
      'POST JSON': ['', {
        method: 'POST',
        headers: { ...bearer, 'content-type': 'application/json; charset=utf-8' },
        body: JSON.stringify({ channel: joined.id, limit: 2 }),
      }],
      'cookie d': [`?${query}`, { headers: { cookie: `d=${encodeURIComponent(member.token)}` } }],
    };
    const answers = {};
    for (const target of ['edge', 'backend']) {
      for (const [name, [suffix, init]] of Object.entries(ways)) {
        const answer = await fetch(`${server.api(target)}conversations.members${suffix}`, {
          ...init, signal: AbortSignal.timeout(10_000),
        });
        const body = await answer.json();
        assert.equal(body.ok, true, `${name} at the ${target}: ${JSON.stringify(body)}`);
        answers[`${name} at the ${target}`] = body.members;
      }
    }
    const [first, ...rest] = Object.values(answers);
    for (const members of rest) assert.deepEqual(members, first);
  });
});
