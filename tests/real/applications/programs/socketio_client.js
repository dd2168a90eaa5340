// A socket.io session of socket.io-client: socketio_client.js BASE. Prints what the session saw.
require("./loopback.js");
const { io } = require("socket.io-client");

const base = new URL(process.argv[2]);
const socket = io(base.origin, {
  path: base.pathname.replace(/\/$/, "") + "/socket.io/",
  extraHeaders: { Origin: base.origin }, // as a browser sends for a page of the same host
  withCredentials: true, // Node keeps cookies only then; a browser keeps cookies of the same origin
  reconnection: false,
});
const ticks = [];
const first = [];
const fail = (error) => {
  console.error(error);
  process.exit(1);
};
socket.on("connect_error", fail);
socket.io.on("open", () => first.push(socket.io.engine.transport.name));
socket.on("tick", (number) => ticks.push(number));

const upgraded = new Promise((resolve) =>
  socket.io.on("open", () => {
    const engine = socket.io.engine;
    if (engine.transport.name === "websocket") resolve();
    else engine.once("upgrade", resolve);
  }),
);
const ask = (...what) => socket.timeout(30000).emitWithAck(...what);

(async () => {
  await new Promise((resolve) => socket.once("connect", resolve));
  await upgraded;
  const answer = await ask("add", [1, 2, 3]);
  const counted = new Promise((resolve) => socket.on("tick", () => ticks.length === 10 && resolve()));
  socket.emit("count", 10);
  await counted;
  console.log(JSON.stringify({ ...answer, ...(await ask("arrived")), ticks, first }));
  socket.close();
})().catch(fail);
