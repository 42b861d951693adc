// The official Node clients, once through the edge and once straight at the backend.
import { test } from 'node:test';
import { behaviours } from './lib/behaviours.mjs';
import { Flannel } from './lib/flannel.mjs';

for (const target of ['edge', 'backend']) {
  test(`@slack/web-api and @slack/rtm-api at the ${target}`, { timeout: 300_000 }, async (t) => {
    const server = await Flannel.start();
    t.after(() => server.close());
    await behaviours(t, server, target);
  });
}
