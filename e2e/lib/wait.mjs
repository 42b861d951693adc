// Bounded waiting. Nothing in this suite waits without a limit and a name for what it waits for.

// A step of a behaviour normally takes milliseconds. Ten seconds leave room for a loaded two-core CI machine.
export const STEP = 10_000;

// within settles as promise does, or rejects after ms.
export async function within(promise, what, ms = STEP) {
  let timer;
  const limit = new Promise((_, reject) => {
    timer = setTimeout(() => reject(new Error(`timed out after ${ms} ms: ${what}`)), ms);
  });
  try {
    return await Promise.race([promise, limit]);
  } finally {
    clearTimeout(timer);
  }
}

// until calls probe until it answers something truthy, and returns that. For states that no event announces. A probe
// that throws has not answered yet; the last error is part of the report.
export async function until(probe, what, ms = STEP) {
  const end = Date.now() + ms;
  let last;
  while (Date.now() < end) {
    try {
      const got = await within(Promise.resolve(probe()), what, Math.max(1, end - Date.now()));
      if (got) return got;
      last = undefined;
    } catch (err) {
      last = err;
    }
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
  throw new Error(`timed out after ${ms} ms: ${what}${last ? ` (last: ${last.message})` : ''}`);
}

// Log remembers things that arrived and hands out the first that matches, whether it has come already or is still to
// come.
export class Log {
  #seen = [];
  #waiting = new Set();

  add(item) {
    this.#seen.push(item);
    for (const wake of [...this.#waiting]) wake();
  }

  get all() {
    return this.#seen;
  }

  // next resolves with the first item from index `from` on for which match is true.
  async next(match, what, { from = 0, ms = STEP } = {}) {
    let at = from;
    let wake;
    const found = new Promise((resolve) => {
      wake = () => {
        for (; at < this.#seen.length; at++) {
          if (match(this.#seen[at])) {
            resolve(this.#seen[at]);
            return;
          }
        }
      };
    });
    this.#waiting.add(wake);
    wake();
    try {
      return await within(found, what, ms);
    } catch (err) {
      err.message += `; seen since: ${JSON.stringify(this.#seen.slice(from)).slice(-2000)}`;
      throw err;
    } finally {
      this.#waiting.delete(wake);
    }
  }
}
