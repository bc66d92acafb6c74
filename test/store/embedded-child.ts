import { startEmbedded } from '../../src/embedded/server.ts';

/**
 * Starts the embedded server on the directory given, tells where it is in a line of JSON, and stops it when its
 * standard input ends. For tests that start it as someone else, or end whoever started it.
 */
const [dataDir = '', umask] = process.argv.slice(2);
if (umask !== undefined) process.umask(Number.parseInt(umask, 8));
const log = { debug: () => {}, info: () => {}, warn: () => {}, error: () => {} };
const { pid, socketDirectory, user, database, stop } = await startEmbedded({ dataDir, log });
process.stdout.write(`${JSON.stringify({ pid, socketDirectory, user, database })}\n`);
process.stdin.on('end', () => void stop());
process.stdin.resume();
