// What the README shows: a Go client on slack-go and a Node client on @slack/rtm-api, both unmodified, talk with each
// other through the edge.
import { spawn } from 'node:child_process';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import readline from 'node:readline';
import { fileURLToPath } from 'node:url';
import { test } from 'node:test';
import { Flannel } from './lib/flannel.mjs';
import { output } from './lib/process.mjs';

const root = fileURLToPath(new URL('..', import.meta.url));

// Chatter is a chat client as a person in a terminal has it: lines in, lines out.
class Chatter {
  #child;
  #heard = [];
  #waiting = [];

  constructor(command, args) {
    this.#child = spawn(command, args, { cwd: root, stdio: ['pipe', 'pipe', 'inherit'] });
    readline.createInterface({ input: this.#child.stdout }).on('line', (line) => {
      this.#heard.push(line);
      for (const w of this.#waiting) w();
    });
  }

  say(text) {
    this.#child.stdin.write(`${text}\n`);
  }

  // hears resolves when a line ends in text.
  async hears(text, ms = 30_000) {
    const deadline = Date.now() + ms;
    while (!this.#heard.some((line) => line.endsWith(text))) {
      const left = deadline - Date.now();
      if (left <= 0) throw new Error(`not heard within ${ms} ms: ${text}; heard ${JSON.stringify(this.#heard)}`);
      await new Promise((resolve) => {
        const timer = setTimeout(resolve, left);
        this.#waiting.push(() => {
          clearTimeout(timer);
          resolve();
        });
      });
    }
  }

  end() {
    this.#child.kill('SIGKILL');
  }
}

test('a Go client and a Node client chat through the edge', { timeout: 240_000 }, async (t) => {
  const dir = await mkdtemp(path.join(tmpdir(), 'flannel-e2e-chat-'));
  const server = await Flannel.start();
  const chatters = [];
  t.after(async () => {
    for (const c of chatters) c.end();
    await server.close();
    await rm(dir, { recursive: true, force: true });
  });
  const [ann, ben] = server.people('member');
  const binary = path.join(dir, 'chat');
  // A cold build cache takes its time.
  await output('go', ['-C', root, 'build', '-o', binary, './internal/example/chat'], 150_000);

  const go = new Chatter(binary, ['-url', server.base('edge'), '-token', ann.token]);
  const node = new Chatter(process.execPath, ['e2e/chat.mjs', server.base('edge'), ben.token]);
  chatters.push(go, node);
  await go.hears('connected, in general');
  await node.hears('connected, in general');

  go.say('hello from Go');
  await node.hears(`${ann.user}: hello from Go`);
  node.say('hello from Node');
  await go.hears(`${ben.user}: hello from Node`);
});
