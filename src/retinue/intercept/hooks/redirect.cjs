// Runs when a Node starts under `retinue run`: connections to TikTok's hosts go to the relay, others are refused.
//
// fetch, undici, https and tls all connect by `net.Socket.prototype.connect`, and obey no proxy (or only in new versions).
// It is copied beside its settings, and keeps to what older Nodes know.
"use strict";

const fs = require("fs");
const net = require("net");
const path = require("path");

const settings = JSON.parse(fs.readFileSync(path.join(__dirname, "redirect.json"), "utf8"));
const LOOPBACK = /^(localhost|127\..*|::1|0\.0\.0\.0|::)$/;

// What to connect to instead of `{ host, port }`; throws where that is not allowed.
function destination(options) {
  const host = String(options.host || "localhost").toLowerCase().replace(/\.$/, "");
  if (settings.hosts.includes(host) && Number(options.port) === 443) {
    return { ...options, host: "127.0.0.1", port: settings.port };
  }
  if (!settings.others && !options.path && !LOOPBACK.test(host)) {
    throw new Error(`${host} is blocked by retinue run; --allow-network lets it through`);
  }
  return options;
}

// The arguments of `connect`, with another destination where that is TikTok. `net.connect` passes them in an array that
// bears a symbol; others give an object, or port and host, or the path of a Unix socket.
function redirected(given) {
  const [first, second, ...rest] = given;
  if (Array.isArray(first)) {
    return [Object.assign(first.slice(), marks(first), { 0: destination(first[0]) }), second, ...rest];
  }
  if (first !== null && typeof first === "object") {
    return [destination(first), second, ...rest];
  }
  if (Number.isInteger(Number(first))) {
    const named = typeof second === "string";
    const { host, port } = destination({ host: named ? second : "localhost", port: first });
    return named ? [port, host, ...rest] : given;
  }
  return given;
}

function marks(array) {
  return Object.fromEntries(Object.getOwnPropertySymbols(array).map((symbol) => [symbol, array[symbol]]));
}

const connect = net.Socket.prototype.connect;

net.Socket.prototype.connect = function (...given) {
  let led;
  try {
    led = redirected(given);
  } catch (error) {
    process.nextTick(() => this.destroy(error));
    return this;
  }
  return connect.apply(this, led);
};
