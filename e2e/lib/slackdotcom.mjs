// For clients that cannot be told another host: a slack.com of our own on this machine.
//
// hubot-slack takes a base URL for its RTM client but not for its web client; localslackirc takes none at all. Neither
// is changed: they speak TLS to slack.com as always, verify its certificate as always, and reach this front instead.
// What differs is only what an operator can set from outside: which certificate authority is trusted (environment),
// and how slack.com is reached (https_proxy for hubot, name resolution for localslackirc).
//
// The front ends TLS and passes requests on to the server under test. The websocket URL that rtm.connect answers points
// at the server itself, so sockets do not come through here.
import { writeFile } from 'node:fs/promises';
import http from 'node:http';
import https from 'node:https';
import net from 'node:net';
import path from 'node:path';
import { readFile } from 'node:fs/promises';
import { output } from './process.mjs';

// certificates makes a certificate authority and a certificate for slack.com in dir. They live for a day.
async function certificates(dir) {
  const file = (name) => path.join(dir, name);
  await writeFile(file('slack.cnf'), [
    '[req]', 'distinguished_name=dn', '[dn]',
    '[ca]', 'basicConstraints=critical,CA:TRUE', 'keyUsage=critical,keyCertSign', 'subjectKeyIdentifier=hash',
    '[leaf]', 'subjectAltName=DNS:slack.com', 'basicConstraints=critical,CA:FALSE', 'keyUsage=critical,digitalSignature',
    'extendedKeyUsage=serverAuth', 'subjectKeyIdentifier=hash', 'authorityKeyIdentifier=keyid',
  ].join('\n'));
  const key = ['-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:prime256v1', '-nodes'];
  await output('openssl', [
    'req', '-x509', ...key, '-days', '1', '-subj', '/CN=flannel e2e', '-config', file('slack.cnf'), '-extensions', 'ca',
    '-keyout', file('ca.key'), '-out', file('ca.pem'),
  ]);
  await output('openssl', [
    'req', '-new', ...key, '-subj', '/CN=slack.com', '-config', file('slack.cnf'),
    '-keyout', file('slack.key'), '-out', file('slack.csr'),
  ]);
  await output('openssl', [
    'x509', '-req', '-in', file('slack.csr'), '-CA', file('ca.pem'), '-CAkey', file('ca.key'), '-set_serial', '1',
    '-days', '1', '-extfile', file('slack.cnf'), '-extensions', 'leaf', '-out', file('slack.pem'),
  ]);
  return { ca: file('ca.pem'), key: await readFile(file('slack.key')), cert: await readFile(file('slack.pem')) };
}

function listen(server) {
  return new Promise((resolve, reject) => {
    server.once('error', reject);
    server.listen(0, '127.0.0.1', () => resolve(server.address().port));
  });
}

export class SlackDotCom {
  // ca is the file of the authority to trust, port where slack.com:443 really is, proxy a URL for https_proxy.
  ca;
  port;
  proxy;
  // calls are the API methods that came through the front, strangers the hosts that a client wanted besides slack.com.
  calls = [];
  strangers = [];
  #front;
  #connect;
  #sockets = new Set();

  // start stands in for slack.com in front of base, a URL without a slash at its end; dir is for the certificates.
  static async start(base, dir) {
    const slack = new SlackDotCom();
    const { ca, key, cert } = await certificates(dir);
    const target = new URL(base);
    slack.ca = ca;
    slack.#front = https.createServer({ key, cert }, (request, response) => {
      slack.calls.push(request.url.replace(/^\/api\//, '').replace(/\?.*/, ''));
      const onward = http.request({
        host: target.hostname,
        port: target.port,
        method: request.method,
        path: request.url,
        headers: { ...request.headers, host: target.host },
      }, (answer) => {
        response.writeHead(answer.statusCode, answer.headers);
        answer.pipe(response);
      });
      // A server that is away looks like one: the connection breaks.
      onward.on('error', () => response.destroy());
      request.pipe(onward);
    });
    slack.port = await slack.#listen(slack.#front);

    slack.#connect = http.createServer((_, response) => response.writeHead(405).end());
    slack.#connect.on('connect', (request, socket, head) => {
      const [host, port] = request.url.split(':');
      let to;
      if (request.url === 'slack.com:443') to = slack.port;
      else if (host === target.hostname) to = Number(port);
      if (to === undefined) {
        slack.strangers.push(request.url);
        socket.end('HTTP/1.1 403 Forbidden\r\n\r\n');
        return;
      }
      const onward = net.connect(to, '127.0.0.1', () => {
        socket.write('HTTP/1.1 200 Connection Established\r\n\r\n');
        onward.write(head);
        onward.pipe(socket);
        socket.pipe(onward);
      });
      slack.#track(onward);
      onward.on('error', () => socket.destroy());
      socket.on('error', () => onward.destroy());
      socket.on('close', () => onward.destroy());
    });
    slack.proxy = `http://127.0.0.1:${await slack.#listen(slack.#connect)}`;
    return slack;
  }

  async #listen(server) {
    server.on('connection', (socket) => this.#track(socket));
    return listen(server);
  }

  #track(socket) {
    this.#sockets.add(socket);
    socket.on('close', () => this.#sockets.delete(socket));
  }

  close() {
    for (const server of [this.#front, this.#connect]) server?.close();
    for (const socket of this.#sockets) socket.destroy();
  }
}
