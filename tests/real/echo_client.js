/* What a fuzzing server expects of a client, with the ws library: `node echo_client.js <url> <cases at once>`.

   It asks how many cases there are, echoes what it hears in each of them, and asks for the report. */
"use strict";

const WebSocket = require("ws");

const [base, atOnce] = process.argv.slice(2);

function talk(path, listen = () => {}) {
  const socket = new WebSocket(`${base}${path}`, {
    perMessageDeflate: { threshold: 0, clientNoContextTakeover: true },
    maxPayload: 0,
  });
  socket.on("message", (payload, isBinary) => listen(socket, payload, isBinary));
  socket.on("error", () => {}); // a case that breaks the protocol ends with one
  return new Promise((resolve) => socket.on("close", resolve));
}

async function main() {
  let count = 0;
  await talk("/getCaseCount", (_, payload) => (count = Number(payload)));
  let next = 1;
  const work = async () => {
    while (next <= count) {
      await talk(`/runCase?case=${next++}&agent=node`, (socket, payload, binary) => socket.send(payload, { binary }));
    }
  };
  await Promise.all(Array.from({ length: Number(atOnce) }, work));
  await talk("/updateReports?agent=node");
}

main();
