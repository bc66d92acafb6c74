import type { Socket } from 'node:net';
import { Inflow, type Taker } from './inflow.ts';

const READ_BYTES = 256 * 1024;

/**
 * An unencrypted connection's way past the client library, which copies all that a COPY carries several times: what a
 * COPY brings is taken out of what arrives before the library sees it, and CopyData can be put between what it sends.
 */
export class Wire {
  /** For the making of the socket: all that arrives goes through one buffer. */
  readonly onread = {
    buffer: Buffer.allocUnsafeSlow(READ_BYTES),
    callback: (bytes: number, buffer: Uint8Array): boolean => {
      this.#inflow.take(Buffer.from(buffer.buffer, buffer.byteOffset, bytes));
      return true;
    },
  };
  // A copy, as the library keeps what it's given.
  readonly #inflow = new Inflow((bytes) => this.#socket?.emit('data', Buffer.from(bytes)));
  #socket: Socket | undefined;

  /** To be called with the socket that was made with `onread`. */
  attach(socket: Socket): void {
    this.#socket = socket;
  }

  /** From now on, `taker` gets what CopyData messages carry, and the library doesn't; undefined ends that. */
  divert(taker: Taker | undefined): void {
    this.#inflow.divert(taker);
  }

  /** Sends whole messages; resolves when the system has taken all of them. They mustn't change before, nor be empty. */
  send(messages: readonly Uint8Array[]): Promise<void> {
    const socket = this.#socket;
    if (socket === undefined) return Promise.reject(new Error('the connection has no socket'));
    return new Promise((resolve, reject) => {
      let left = messages.length;
      if (left === 0) resolve();
      const sent = (problem?: Error | null) => {
        if (problem) reject(problem);
        else if (--left === 0) resolve();
      };
      socket.cork();
      for (const message of messages) socket.write(message, sent);
      socket.uncork();
    });
  }
}
