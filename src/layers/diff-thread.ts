import { parentPort } from 'node:worker_threads';
import { DiffJob, type ToThread } from './diff-jobs.ts';

/** A diff thread: one job after the other. */
const port = parentPort;
if (port === null) throw new Error('this file is the body of a worker thread');

const job = new DiffJob();

port.on('message', (message: ToThread) => {
  switch (message.kind) {
    case 'files':
      job.begin(message.sizes);
      return;
    case 'bytes':
      job.place(message.batch, message.places);
      return;
    case 'compare': {
      const results = job.compare(message.pairs, message.want);
      // Each in memory of its own, or all of them in none.
      const memory = results.flatMap(({ body }) => (body.length > 0 ? [body.buffer as ArrayBuffer] : [])); // never shared
      port.postMessage(results, memory);
    }
  }
});
