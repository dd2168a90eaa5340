/* An upstream of WebSockets and event streams on one port: `node streams_server.js <port>`.

   The same conversations as in streams_server.py, with the ws library and Node's own HTTP server, whose streams are
   chunked. Here /plain is an /echo that declines every extension, and /fragments cuts messages up by itself. */
"use strict";

const http = require("node:http");
const { WebSocketServer } = require("ws");

/* Things that are waited for by name: each is given once and taken once. */
class Mailbox {
  #waiting = new Map();

  #entry(name) {
    if (!this.#waiting.has(name)) this.#waiting.set(name, { things: [], takers: [] });
    return this.#waiting.get(name);
  }

  give(name, thing) {
    const { things, takers } = this.#entry(name);
    if (takers.length) takers.shift()(thing);
    else things.push(thing);
  }

  take(name) {
    const { things, takers } = this.#entry(name);
    return things.length ? Promise.resolve(things.shift()) : new Promise((resolve) => takers.push(resolve));
  }
}

const endings = new Mailbox();
const requests = new Mailbox();
const departures = new Mailbox();
const streams = new Map();

const conversations = {
  echo(socket) {
    socket.on("message", (payload, isBinary) => socket.send(payload, { binary: isBinary }));
  },
  plain(socket) {
    conversations.echo(socket);
  },
  fragments(socket) {
    socket.on("message", (payload, isBinary) => {
      for (let at = 0; at < payload.length; at += 1000) {
        const fin = at + 1000 >= payload.length;
        socket.send(payload.subarray(at, at + 1000), { binary: isBinary, fin });
      }
    });
  },
  count(socket, asked) {
    for (let number = 0; number < Number(asked.get("n")); number++) {
      socket.send(number % 2 ? Buffer.from(String(number)) : String(number));
    }
    socket.close(1000);
  },
  close(socket, asked) {
    if (asked.has("code")) socket.close(Number(asked.get("code")), asked.get("reason"));
    else socket.close();
  },
  vanish(socket) {
    socket.on("message", () => socket.terminate());
  },
  ping(socket, asked) {
    socket.on("pong", (payload) => socket.send(`answered ${payload}`));
    socket.ping(asked.get("payload"));
  },
  async ending(socket, asked) {
    socket.send(JSON.stringify(await endings.take(asked.get("of"))));
    socket.close(1000);
  },
};

function converse(socket, request) {
  const url = new URL(request.url, "http://upstream");
  const pings = [];
  socket.on("ping", (payload) => pings.push(String(payload)));
  socket.on("error", () => {});
  socket.on("close", (code, reason) => {
    if (!url.searchParams.has("id")) return;
    const ending = { close: [code, String(reason)], pings, bytes: request.socket.bytesRead };
    endings.give(url.searchParams.get("id"), ending);
  });
  conversations[url.pathname.slice(1)](socket, url.searchParams);
}

const options = {
  noServer: true,
  maxPayload: 0,
  handleProtocols: (offered) => (offered.has("chat.v2") ? "chat.v2" : false),
};
const willing = new WebSocketServer({ ...options, perMessageDeflate: { threshold: 0 } });
const declining = new WebSocketServer({ ...options, perMessageDeflate: false });

function upgrade(request, socket, head) {
  const { pathname } = new URL(request.url, "http://upstream");
  if (pathname === "/refuse") {
    const body = '{"error":"who are you?"}';
    socket.end(
      'HTTP/1.1 401 Unauthorized\r\nWWW-Authenticate: Bearer realm="streams"\r\n' +
        `Content-Type: application/json\r\nContent-Length: ${body.length}\r\n\r\n${body}`,
    );
    return;
  }
  const server = pathname === "/plain" ? declining : willing;
  server.handleUpgrade(request, socket, head, converse);
}

function startStream(response) {
  response.writeHead(200, { "Content-Type": "text/event-stream; charset=utf-8" });
  response.flushHeaders();
}

function resume(request, response, name) {
  const last = request.headers["last-event-id"] ?? null;
  requests.give(name, { last });
  startStream(response);
  const start = Number(last ?? 0);
  response.write("retry: 50\n\n");
  for (let number = start + 1; number <= start + 3; number++) {
    response.write(`id: ${number}\ndata: event ${number}\n\n`);
  }
  response.end(start ? "event: end\ndata:\n\n" : undefined);
}

async function answer(request, response) {
  const url = new URL(request.url, "http://upstream");
  const name = url.searchParams.get("id");
  let body = "";
  request.setEncoding("utf8");
  for await (const piece of request) body += piece;
  switch (url.pathname) {
    case "/request": // the next request of a stream
      return response.end(JSON.stringify(await requests.take(name)));
    case "/departure": // once the client of a stream has left
      return response.end(JSON.stringify(await departures.take(name)));
    case "/step": // what goes out next
      streams.get(name).write(body);
      return response.end();
    case "/end":
      streams.get(name).end();
      return response.end();
    case "/break":
      streams.get(name).destroy();
      return response.end();
    case "/resume":
      return resume(request, response, name);
    default:
      startStream(response);
      streams.set(name, response);
      response.on("close", () => departures.give(name, { finished: response.writableFinished }));
      if (request.method === "HEAD") return response.end();
      return requests.give(name, { headers: request.headers, body });
  }
}

http.createServer(answer).on("upgrade", upgrade).listen(Number(process.argv[2]), "127.0.0.1");
