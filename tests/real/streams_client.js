/* A client with the ws library: a job for converse.js as JSON on the standard input, its outcome on the output.

   Beyond what a browser can, a job may say deflate: false, or ping: a payload to ping with once it is open, to close when
   that is answered; an outcome may have pong, its payload, or refused: [status, www-authenticate, body]. */
"use strict";

const WebSocket = require("ws");
require("./converse.js");

async function main() {
  let text = "";
  for await (const piece of process.stdin) text += piece;
  const job = JSON.parse(text);
  const extra = {};
  const open = (url, protocols) => {
    const socket = new WebSocket(url, protocols, {
      perMessageDeflate: job.deflate ? { threshold: 0 } : false,
      maxPayload: 0,
    });
    socket.on("open", () => job.ping && socket.ping(job.ping));
    socket.on("pong", (payload) => {
      extra.pong = String(payload);
      socket.close(1000);
    });
    socket.on("unexpected-response", async (request, response) => {
      let body = "";
      for await (const piece of response) body += piece;
      extra.refused = [response.statusCode, response.headers["www-authenticate"], body];
      socket.emit("close", 1006, Buffer.alloc(0));
    });
    return socket;
  };
  const outcome = await globalThis.converse(open, job);
  // A refusal leaves the connection open: nobody else needs it.
  process.stdout.write(JSON.stringify(Object.assign(outcome, extra)), () => process.exit());
}

main();
