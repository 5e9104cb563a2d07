// Runs parse-server with its settings from the environment, under the names that it has for them. What its own command
// cannot: write no log files, read secrets from files, wait for the database, and end soon when it is asked to.
'use strict';
const fs = require('node:fs');
const http = require('node:http');
const { createRequire } = require('node:module');

const ENVIRONMENT = { ...process.env };
// Its first logger takes these from the environment, as soon as it is loaded; what `logsFolder` says below comes later.
Object.assign(process.env, { PARSE_SERVER_LOGS_FOLDER: 'null', JSON_LOGS: '1' });
const { ParseServer } = require('parse-server');
const { ParseServerOptions } = require('parse-server/lib/Options/Definitions');
const postgres = require('parse-server/lib/Adapters/Storage/Postgres/PostgresConfigParser');

const express = createRequire(require.resolve('parse-server'))('express');

const PORT = 1337;
const MOUNT = '/parse';
const OURS = { port: PORT, mountPath: MOUNT, logsFolder: null, jsonLogs: true, host: '0.0.0.0' };
const REQUIRED = ['appId', 'masterKey', 'databaseURI'];
const GRACE = 5000; // milliseconds that requests have when the container is stopped
const AGAIN = 1000; // and between looks for a database
// Nobody listens there, nobody knows the name, or PostgreSQL is not ready yet (57P03). Anything else will not get better.
const LATER = ['ECONNREFUSED', 'ECONNRESET', 'EHOSTUNREACH', 'ENETUNREACH', 'ENOTFOUND', 'EAI_AGAIN', 'ETIMEDOUT', '57P03'];

// It takes these from the URI as they stand there, where a password's special characters are escaped.
const parts = postgres.getDatabaseOptionsFromURI;
postgres.getDatabaseOptionsFromURI = (uri) => {
  const found = parts(uri);
  for (const name of ['user', 'password', 'database']) found[name] = decodeURIComponent(found[name] ?? '');
  return found;
};

function log(level, message) {
  console.log(JSON.stringify({ level, message }));
}

// Settings as parse-server takes them, and what is wrong with them.
function settings(environment) {
  const options = {};
  const wrong = [];
  const known = new Set();
  for (const [key, { env, action }] of Object.entries(ParseServerOptions)) {
    if (!env) continue;
    known.add(env).add(`${env}_FILE`);
    let value = environment[env];
    const file = environment[`${env}_FILE`];
    try {
      if (file && value) throw new Error(`set ${env} or ${env}_FILE, not both`);
      if (file) value = fs.readFileSync(file, 'utf8').trim();
      if (!value) continue;
      if (key in OURS) log('warn', `${env} changes nothing in this image`);
      else options[key] = action ? action(value) : value;
    } catch (error) {
      wrong.push(`${file ? `${env}_FILE` : env}: ${error.message}`);
    }
  }
  for (const key of REQUIRED.filter((name) => !(name in options))) {
    const { env } = ParseServerOptions[key];
    if (!wrong.some((text) => text.startsWith(env))) wrong.push(`set ${env} or ${env}_FILE`);
  }
  for (const name of Object.keys(environment)) {
    if (name.startsWith('PARSE_SERVER_') && !known.has(name)) log('warn', `${name} is no setting of parse-server`);
  }
  return { options, wrong };
}

function defaults(options) {
  const made = { serverURL: `http://127.0.0.1:${PORT}${MOUNT}`, ...options, ...OURS };
  made.startLiveQueryServer ??= Boolean(made.liveQuery);
  // The default stores files in MongoDB.
  if (/^postgres(ql)?:/.test(made.databaseURI)) made.filesAdapter ??= '@parse/fs-files-adapter';
  return made;
}

async function ready(parse) {
  for (;;) {
    try {
      // start() would take a database that is away for one that is there but empty, and print a stack each time.
      await parse.config.databaseController.adapter.classExists('_SCHEMA');
      return await parse.start();
    } catch (error) {
      const code = error.code ?? error.errors?.[0]?.code;
      if (!LATER.includes(code)) throw error;
      log('info', `waiting for the database: ${error.message || code}`);
      await new Promise((resolve) => { setTimeout(resolve, AGAIN); });
    }
  }
}

async function main() {
  const { options, wrong } = settings(ENVIRONMENT);
  if (wrong.length) {
    console.error(wrong.join('\n'));
    process.exit(2);
  }
  const parse = new ParseServer(defaults(options));
  const app = express();
  if (options.trustProxy) app.set('trust proxy', options.trustProxy);
  app.use(MOUNT, (request, response, next) => {
    if (parse.config.state === 'ok') next();
    else response.status(503).set('Retry-After', '1').json({ status: 'waiting for the database' });
  }, (request, response, next) => parse.app(request, response, next));

  const server = http.createServer(app);
  const upgraded = new Set(); // live queries, which server.close() would wait for
  server.on('upgrade', (request, socket) => {
    upgraded.add(socket);
    socket.on('close', () => upgraded.delete(socket));
  });
  async function end(signal) {
    log('info', `${signal}: ending`);
    const closed = new Promise((resolve) => { server.close(resolve); });
    for (const socket of upgraded) socket.destroy();
    setTimeout(() => server.closeAllConnections(), GRACE).unref();
    await closed;
    await parse.config.databaseController.adapter.handleShutdown();
    process.exit(0);
  }
  for (const signal of ['SIGTERM', 'SIGINT']) process.once(signal, () => end(signal).catch(fail));

  await new Promise((resolve, reject) => { server.once('error', reject).listen(PORT, resolve); });
  await ready(parse);
  if (parse.config.startLiveQueryServer) {
    await ParseServer.createLiveQueryServer(server, options.liveQueryServerOptions, parse.config);
  }
  log('info', `serving ${MOUNT} on port ${PORT}`);
}

function fail(error) {
  console.error(`parse: ${error?.message || error}`);
  process.exit(1);
}

main().catch(fail);
