// Sends one message over the RTM socket, in a process of its own: `node rtm-send.mjs API TOKEN CHANNEL TEXT` prints
// {"ack":…} or {"nack":…}.
//
// @slack/rtm-api 7.0.4 keeps unanswered messages in a sparse array and calls cancel() on its holes when the connection
// ends or comes back, which throws where nobody can catch it. So a client that has called sendMessage can neither
// disconnect nor reconnect, with any server. Here it does not have to: the process just ends. The client stays as it is.
import { Person } from './person.mjs';
import { within } from './wait.mjs';

const [api, token, channel, text] = process.argv.slice(2);
const person = new Person(api, { user: '', name: 'sender', token });
await person.connect();
try {
  console.log(JSON.stringify({ ack: await within(person.rtm.sendMessage(text, channel), 'the ack') }));
} catch (err) {
  if (err.data === undefined) throw err;
  console.log(JSON.stringify({ nack: err.data }));
}
process.exit(0);
