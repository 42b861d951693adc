// The server under test: the real binary, `flannel dev`, with a data folder of its own.
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { Child, output } from './process.mjs';

const binary =
  process.env.FLANNEL_BIN ?? fileURLToPath(new URL('../../bin/flannel', import.meta.url));

// Generating a workspace of 12 users and opening the store takes well below a second; a minute is for a machine that
// compiles something beside us.
const START = 60_000;

export class Flannel {
  // ready is what the ready line said.
  ready;
  #data;
  #child;

  static async start() {
    const flannel = new Flannel();
    flannel.#data = await mkdtemp(path.join(tmpdir(), 'flannel-e2e-'));
    await flannel.#run('127.0.0.1:0', '127.0.0.1:0', '127.0.0.1:0');
    return flannel;
  }

  async #run(edge, backend, admin) {
    this.#child = new Child('flannel', binary, [
      'dev',
      '--listen', edge,
      '--backend-listen', backend,
      '--admin-listen', admin,
      '--preset', '12',
      '--data', this.#data,
    ]);
    const line = await this.#child.orExit(
      this.#child.stdout.next((text) => text.startsWith('{'), 'the ready line', { ms: START }),
    );
    this.ready = JSON.parse(line);
    if (this.ready.ready !== true) throw new Error(`not a ready line: ${line}`);
  }

  // base returns the URL of "edge" or "backend", without a slash at its end.
  base(target) {
    return this.ready[target].replace(/\/$/, '');
  }

  // api returns the Web API's base URL as clients want it, with a slash at its end.
  api(target) {
    return `${this.base(target)}/api/`;
  }

  // people returns the users with a role, in the order of the ready line: {user, name, role, token}.
  people(role) {
    return this.ready.tokens.filter((t) => t.role === role);
  }

  // token issues another token for a user, beside the running server.
  async token(user) {
    const out = await output(binary, ['token', '--data', this.#data, '--user', user]);
    const token = out.trim().split(/\s+/).pop();
    if (!token.startsWith('xox')) throw new Error(`flannel token printed ${JSON.stringify(out)}`);
    return token;
  }

  // goAway stops the server as an operator would and returns how it ended; comeBack starts it again at the same
  // addresses with the same data.
  async goAway() {
    return this.#child.stop('SIGTERM');
  }

  async comeBack() {
    const at = (name) => new URL(this.ready[name]).host;
    await this.#run(at('edge'), at('backend'), at('admin'));
  }

  tail() {
    return this.#child?.tail() ?? '';
  }

  async close() {
    try {
      if (this.#child && !this.#child.ended) await this.#child.stop();
    } finally {
      await rm(this.#data, { recursive: true, force: true });
    }
  }
}
