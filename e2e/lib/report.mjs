// Subtests that name the target and show the server's last words when they fail.

// behaviour runs a subtest and returns whether it passed: some others make no sense, and take long to fail, without it.
export async function behaviour(t, name, server, run, timeout = 60_000) {
  let passed = false;
  await t.test(name, { timeout }, async (sub) => {
    try {
      await run(sub);
      passed = true;
    } catch (err) {
      console.error(server.tail());
      throw err;
    }
  });
  return passed;
}
