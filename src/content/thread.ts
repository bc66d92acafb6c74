import { parentPort } from 'node:worker_threads';
import { type Done, type Job, memoryOf, perform } from './jobs.ts';

/** The coder thread: takes jobs, one after the other, and answers each with its number. */
const port = parentPort;
if (port === null) throw new Error('this file is the body of a worker thread');

port.on('message', ({ id, job }: { id: number; job: Job }) => {
  const done: Done = perform(job);
  port.postMessage({ id, done }, memoryOf(done));
});
