// A chat client of thirty lines on an unmodified @slack/rtm-api: what is typed is said in a channel, what others say is
// printed. internal/example/chat is the same in Go.
//
//   node e2e/chat.mjs http://127.0.0.1:8080 TOKEN [CHANNEL]
import readline from 'node:readline';
import { RTMClient } from '@slack/rtm-api';
import { WebClient } from '@slack/web-api';

const [url = 'http://127.0.0.1:8080', token = process.env.TOKEN, name = 'general'] = process.argv.slice(2);
const slackApiUrl = `${url}/api/`;
const web = new WebClient(token, { slackApiUrl });
const rtm = new RTMClient(token, { slackApiUrl });

const { channels } = await web.conversations.list({ limit: 999 });
const channel = channels.find((c) => c.name === name)?.id;
if (!channel) {
  console.error(`chat: there is no channel ${name}`);
  process.exit(1);
}
rtm.on('message', (m) => {
  if (m.channel === channel) console.log(`${m.user}: ${m.text}`);
});
await rtm.start();
console.log('connected, in', name);
readline.createInterface({ input: process.stdin })
  .on('line', (line) => rtm.sendMessage(line, channel))
  .on('close', () => process.exit(0));
