// Start-up hook of Node under `retinue run`: connections to TikTok's hosts go to the relay, others are blocked.
//
// fetch, undici, https and tls all connect by `net.Socket.prototype.connect`, and ignore proxies (except in new versions).
// It is copied beside its settings and runs on older versions of Node.
"use strict";

const fs = require("fs");
const net = require("net");
const path = require("path");

const settings = JSON.parse(fs.readFileSync(path.join(__dirname, "redirect.json"), "utf8"));
const LOOPBACK = /^(localhost|127\..*|::1|0\.0\.0\.0|::)$/;

// Return the destination instead of `{ host, port }`; throw if that is blocked.
function destination(options) {
  const host = String(options.host || "localhost").toLowerCase().replace(/\.$/, "");
  if (settings.hosts.includes(host) && Number(options.port) === 443) {
    return { ...options, host: "127.0.0.1", port: settings.port };
  }
  if (!settings.allow_network && !options.path && !LOOPBACK.test(host)) {
    throw new Error(`${host} is blocked by retinue run; --allow-network lets it through`);
  }
  return options;
}

// Return the arguments of `connect` with another destination for TikTok. `net.connect` passes them in an array with a
// symbol; others pass an object, or port and host, or the path of a Unix socket.
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
  let target;
  try {
    target = redirected(given);
  } catch (error) {
    process.nextTick(() => this.destroy(error));
    return this;
  }
  return connect.apply(this, target);
};
