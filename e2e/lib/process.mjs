// Child processes that never outlive the tests, and whose last words are shown when a test fails.
import { spawn } from 'node:child_process';
import { createInterface } from 'node:readline';
import { Log, within } from './wait.mjs';

const running = new Set();

function killAll() {
  for (const child of running) child.kill('SIGKILL');
}
process.on('exit', killAll);
for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP']) {
  process.on(signal, () => {
    killAll();
    process.exit(1);
  });
}

// How many lines of a child's output a failed test shows.
const TAIL = 60;

export class Child {
  stdout = new Log();
  #name;
  #child;
  #tail = [];
  #exited;
  #ended = false;

  constructor(name, command, args, options = {}) {
    this.#name = name;
    this.#child = spawn(command, args, { stdio: ['ignore', 'pipe', 'pipe'], ...options });
    running.add(this.#child);
    this.#exited = new Promise((resolve) => {
      const end = (code, signal) => {
        running.delete(this.#child);
        this.#ended = true;
        resolve({ code, signal });
      };
      this.#child.once('exit', end);
      this.#child.once('error', (err) => {
        this.#keep(`cannot start: ${err.message}`);
        end(-1, null);
      });
    });
    createInterface({ input: this.#child.stdout }).on('line', (line) => {
      this.#keep(line);
      this.stdout.add(line);
    });
    createInterface({ input: this.#child.stderr }).on('line', (line) => this.#keep(line));
  }

  #keep(line) {
    this.#tail.push(line.length > 2000 ? `${line.slice(0, 2000)}…` : line);
    if (this.#tail.length > TAIL) this.#tail.shift();
  }

  get ended() {
    return this.#ended;
  }

  // write says something to a child that was started with a pipe for its standard input.
  write(text) {
    this.#child.stdin.write(text);
  }

  // tail is the end of what the process said, for failure reports.
  tail() {
    return `--- last output of ${this.#name} ---\n${this.#tail.join('\n')}\n---`;
  }

  // orExit settles as promise does, but rejects as soon as the process ends.
  orExit(promise) {
    return Promise.race([
      promise,
      this.#exited.then(({ code, signal }) => {
        throw new Error(`${this.#name} ended (code ${code}, signal ${signal})\n${this.tail()}`);
      }),
    ]);
  }

  // stop asks the process to end and returns how it did; one that does not within ms is killed and reported.
  async stop(signal = 'SIGTERM', ms = 20_000) {
    this.#child.kill(signal);
    try {
      return await within(this.#exited, `${this.#name} ends after ${signal}`, ms);
    } catch (err) {
      this.#child.kill('SIGKILL');
      await this.#exited;
      err.message += `\n${this.tail()}`;
      throw err;
    }
  }
}

// output runs a command to its end and returns its standard output.
export async function output(command, args, ms = 30_000) {
  const child = spawn(command, args, { stdio: ['ignore', 'pipe', 'pipe'] });
  running.add(child);
  let out = '';
  let err = '';
  child.stdout.setEncoding('utf8').on('data', (data) => (out += data));
  child.stderr.setEncoding('utf8').on('data', (data) => (err += data));
  const exited = new Promise((resolve, reject) => {
    child.once('error', reject);
    child.once('close', resolve);
  });
  try {
    const code = await within(exited, `${command} ${args.join(' ')}`, ms);
    if (code !== 0) throw new Error(`${command} ${args.join(' ')}: exit code ${code}\n${err}`);
    return out;
  } finally {
    child.kill('SIGKILL');
    running.delete(child);
  }
}
