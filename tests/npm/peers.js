// Third-party peers: `node peers.js KIND ARGUMENTS`. Servers print `listening PORT`; clients print one line of JSON.
const { once } = require("events");

const kinds = {
  // An echo server by `ws`.
  async "ws-server"(deflate) {
    const { WebSocketServer } = require("ws");
    const server = new WebSocketServer({ host: "127.0.0.1", port: 0, perMessageDeflate: deflate === "deflate" });
    server.on("connection", (socket) => {
      socket.on("message", (data, isBinary) => socket.send(data, { binary: isBinary }));
    });
    await once(server, "listening");
    console.log(`listening ${server.address().port}`);
  },

  // The seed's four methods by `rpc-websockets`, JSON-RPC 2.0.
  async "rpc-server"() {
    const { Server } = require("rpc-websockets");
    const server = new Server({ host: "127.0.0.1", port: 0 });
    server.register("echo", (params) => params);
    server.register("add", ({ a, b }) => ({ result: a + b }));
    server.register("get_time", () => ({ timestamp: Math.floor(Date.now() / 1000) }));
    server.register("error_test", () => {
      throw { code: -32603, message: "Test error" };
    });
    await once(server, "listening");
    console.log(`listening ${server.wss.address().port}`);
  },

  // Text, binary, fragments, an empty message, a ping and a close with a code, by `ws`.
  async "ws-client"(url, deflate) {
    const { WebSocket } = require("ws");
    const socket = new WebSocket(url, { perMessageDeflate: deflate === "deflate" });
    const told = { messages: [] };
    socket.on("message", (data, isBinary) => {
      told.messages.push(isBinary ? { binary: data.toString("hex") } : { text: data.toString() });
    });
    await once(socket, "open");
    told.extensions = socket.extensions;
    socket.send("Hello, WebSocket!");
    socket.send(Buffer.from([0, 1, 2, 3, 4]));
    socket.send("");
    socket.send("grüße ".repeat(20000));
    socket.send("in ", { fin: false });
    socket.send("three ", { fin: false });
    socket.send("pieces", { fin: true });
    while (told.messages.length < 5) await once(socket, "message");
    socket.ping("alive?");
    told.pong = (await once(socket, "pong"))[0].toString();
    socket.close(4321, "enough");
    [told.code, told.reason] = (await once(socket, "close")).map(String);
    console.log(JSON.stringify(told));
  },

  // Calls, an error, a notification, by `rpc-websockets`.
  async "rpc-client"(url) {
    const { Client } = require("rpc-websockets");
    const client = new Client(url, { reconnect: false });
    await new Promise((resolve, reject) => client.on("open", resolve).on("error", reject));
    const told = {};
    told.echo = await client.call("echo", { message: "Hello, RPC!", nested: [1, null, { "ä": true }] });
    told.add = await client.call("add", { a: 5, b: 3 });
    told.time = await client.call("get_time", {});
    told.missing = await client.call("no_such_method", {}).catch((error) => error);
    told.refused = await client.call("add", { a: "5" }).catch((error) => error);
    await client.notify("echo", { message: "nobody answers this" });
    told.many = await Promise.all([...Array(200).keys()].map((a) => client.call("add", { a, b: 1 })));
    client.close();
    console.log(JSON.stringify(told));
  },
};

const [kind, ...rest] = process.argv.slice(2);
kinds[kind](...rest).catch((error) => {
  console.error(error);
  process.exit(1);
});
