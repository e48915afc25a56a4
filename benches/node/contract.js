// The Node baseline's own decode and schema on events from a file; for `cargo xtask bench contract`.
//
//     node contract.js BASELINE_NODE_FOLDER EVENTS
//
// EVENTS holds each value behind its length (four bytes, little-endian). For every line on stdin, a number, all events are
// decoded and checked that many times over, and a line is answered: the microseconds of CPU that the whole process used for
// it, and how many events were accepted.
'use strict';

const { readFileSync } = require('node:fs');
const { join } = require('node:path');
const { createInterface } = require('node:readline');

const [folder, file] = process.argv.slice(2);
const { decode, PaymentEventSchema } = require(join(folder, 'dist', 'contract.js'));

const bytes = readFileSync(file);
const events = [];
for (let at = 0; at < bytes.length; ) {
  const length = bytes.readUInt32LE(at);
  events.push(bytes.subarray(at + 4, at + 4 + length));
  at += 4 + length;
}

function pass() {
  let accepted = 0;
  for (let at = 0; at < events.length; at++) {
    if (PaymentEventSchema.safeParse(decode(events[at])).success) accepted++;
  }
  return accepted;
}

createInterface({ input: process.stdin }).on('line', (line) => {
  const times = Number(line);
  const before = process.cpuUsage();
  let accepted = 0;
  for (let time = 0; time < times; time++) accepted += pass();
  const used = process.cpuUsage(before);
  process.stdout.write(`${used.user + used.system} ${accepted}\n`);
});
