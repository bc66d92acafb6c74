import { parentPort } from 'node:worker_threads';
import { type DeltaJob, performDelta } from './delta-jobs.ts';

/** The delta thread: takes jobs, one after the other, and answers each with its number. */
const port = parentPort;
if (port === null) throw new Error('this file is the body of a worker thread');

port.on('message', ({ id, job }: { id: number; job: DeltaJob }) => {
  port.postMessage({ id, done: performDelta(job) });
});
