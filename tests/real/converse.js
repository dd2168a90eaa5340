/* One conversation, with the WebSocket interface that browsers have and the ws library imitates.

   open: (url, subprotocols) => WebSocket.
   job: url; protocols to offer; send: messages, each {text} or {binary: base64}; expect: how many messages to wait
   for; close: [] or [code] or [code, reason] to close with after them, or null to wait for the other side's Close. */
"use strict";

async function converse(open, job) {
  const socket = open(job.url, job.protocols);
  socket.binaryType = "arraybuffer";
  const outcome = { received: [] };
  const close = () => {
    if (job.close && outcome.received.length === job.expect) socket.close(...job.close);
  };
  await new Promise((resolve) => {
    socket.onopen = () => {
      outcome.protocol = socket.protocol;
      outcome.deflate = socket.extensions.includes("permessage-deflate");
      for (const message of job.send) socket.send("text" in message ? message.text : decoded(message.binary));
      close();
    };
    socket.onmessage = ({ data }) => {
      outcome.received.push(typeof data === "string" ? { text: data } : { binary: encoded(data) });
      close();
    };
    socket.onerror = () => {};
    socket.onclose = ({ code, reason, wasClean }) => resolve(Object.assign(outcome, { close: [code, reason], wasClean }));
  });
  return outcome;
}

function decoded(base64) {
  return Uint8Array.from(atob(base64), (character) => character.charCodeAt(0));
}

function encoded(buffer) {
  const bytes = new Uint8Array(buffer);
  let characters = "";
  for (let at = 0; at < bytes.length; at += 8192) characters += String.fromCharCode(...bytes.subarray(at, at + 8192));
  return btoa(characters);
}

globalThis.converse = converse;
