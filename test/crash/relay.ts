import { chmodSync, mkdtempSync, rmSync } from 'node:fs';
import { createConnection, createServer, type Server as NetServer, type Socket } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { eventually } from '../support/postgres.ts';

/** What happens to the bytes of a connection. `stall`: none reach the server; `mute`: no answers come back. */
type Flow = 'pass' | 'stall' | 'mute' | { readonly answersOf: string };

const NEVER = Number.POSITIVE_INFINITY;

/** A moment on a wire: when something is about to be sent to the server, or an answer to be passed on. */
export type Step = 'question' | 'answer';

/** Tarbox's connections, by what they're for. */
export type Purpose = 'lease' | 'read' | 'chunks' | 'commit';

/**
 * A wire between Tarbox and PostgreSQL that can be held up and cut: at any byte, and for connections of one purpose.
 * Bytes that were held up are kept.
 */
export class Relay {
  readonly #folder = mkdtempSync(join(tmpdir(), 'tarbox-relay-'));
  readonly #server: NetServer;
  readonly #wires = new Set<Wire>();
  readonly #flows = new Map<Purpose, Flow>();
  #cutAfterBytes = NEVER;
  #strike: { readonly at: Step; left: number; readonly strike: () => void } | undefined;

  /** `target`: the directory of PostgreSQL's socket. */
  constructor(target: string) {
    chmodSync(this.#folder, 0o755);
    this.#server = createServer((client) => this.#connect(client, target));
  }

  async start(): Promise<void> {
    await new Promise<void>((done) => this.#server.listen(join(this.#folder, '.s.PGSQL.5432'), done));
  }

  /** For `DATABASE_URL`. */
  get url(): string {
    return `postgres://tarbox@/postgres?host=${this.#folder}`;
  }

  /** From now on, connections of this purpose do this; those that are open pass on what was kept if it's `pass`. */
  set(purpose: Purpose, flow: Flow): void {
    this.#flows.set(purpose, flow);
    for (const wire of this.#wires) if (wire.isFor(purpose)) wire.release(flow);
  }

  /** As `set` with `mute`, for each connection once it carries out a statement with this text in it. */
  muteAnswersOf(purpose: Purpose, text: string): void {
    this.#flows.set(purpose, { answersOf: text });
  }

  /** How many bytes for the server, or answers, connections of this purpose have been held up with. */
  kept(purpose: Purpose): number {
    return [...this.#wires].reduce((sum, wire) => sum + (wire.isFor(purpose) ? wire.keptBytes : 0), 0);
  }

  /**
   * Cuts every connection once so many more bytes have gone to the server: in the middle of a message, most likely.
   * Resolves when that is done.
   */
  async cutAfter(bytes: number): Promise<void> {
    this.#cutAfterBytes = bytes;
    await eventually('connections are cut', () => this.#cutAfterBytes === NEVER || undefined);
  }

  /**
   * Cuts this purpose's connections on Tarbox's side alone; new ones pass. Returns what delivers to the server, later,
   * the bytes that were kept.
   */
  orphan(purpose: Purpose): () => void {
    this.#flows.set(purpose, 'pass');
    const orphans = [...this.#wires].filter((wire) => wire.isFor(purpose));
    for (const wire of orphans) wire.orphan();
    return () => {
      for (const wire of orphans) wire.release('pass');
    };
  }

  /**
   * Calls `strike` at the step of this kind that follows `count` others, from now on and on any connection. What was
   * about to be passed on there is lost, with its connection.
   */
  strikeAfter(count: number, at: Step, strike: () => void): void {
    this.#strike = { at, left: count, strike };
  }

  /** Whether what `strikeAfter` was asked for last is still to come; it won't, from now on. */
  disarm(): boolean {
    const isArmed = this.#strike !== undefined;
    this.#strike = undefined;
    return isArmed;
  }

  /** True when there's a strike now. */
  #step(step: Step): boolean {
    if (this.#strike?.at !== step || this.#strike.left-- > 0) return false;
    const { strike } = this.#strike;
    this.#strike = undefined;
    strike();
    return true;
  }

  #connect(client: Socket, target: string): void {
    const server = createConnection(join(target, '.s.PGSQL.5432'));
    const wire = new Wire(
      client,
      server,
      (purpose) => this.#flows.get(purpose) ?? 'pass',
      (bytes) => this.#count(bytes),
      (step) => this.#step(step),
    );
    this.#wires.add(wire);
    server.once('close', () => this.#wires.delete(wire));
  }

  /** True when the wire is to be cut now. */
  #count(bytes: number): boolean {
    this.#cutAfterBytes -= bytes;
    if (this.#cutAfterBytes > 0) return false;
    this.#cutAfterBytes = NEVER;
    for (const wire of this.#wires) wire.cut();
    return true;
  }

  async remove(): Promise<void> {
    for (const wire of this.#wires) wire.cut();
    await new Promise<void>((done) => this.#server.close(() => done()));
    rmSync(this.#folder, { recursive: true, force: true });
  }
}

const PURPOSES: readonly Purpose[] = ['lease', 'read', 'chunks', 'commit'];

/** One connection. */
class Wire {
  readonly #client: Socket;
  readonly #server: Socket;
  readonly #flowOf: (purpose: Purpose) => Flow;
  #purpose: Purpose | undefined;
  #toServer: Buffer[] = [];
  #toClient: Buffer[] = [];
  #isOrphan = false;
  /** The statement has been sent, and its parameters are next. */
  #isPrepared = false;
  #isMuted = false;

  constructor(
    client: Socket,
    server: Socket,
    flowOf: (purpose: Purpose) => Flow,
    isCutBy: (bytes: number) => boolean,
    isStruckAt: (step: Step) => boolean,
  ) {
    this.#client = client;
    this.#server = server;
    this.#flowOf = flowOf;
    client.on('data', (bytes) => {
      // The first message names the program (PostgreSQL manual, StartupMessage).
      this.#purpose ??= PURPOSES.find((purpose) => bytes.includes(`tarbox ${purpose}`));
      const flow = this.#flow;
      this.#isMuted ||= this.#isPrepared;
      this.#isPrepared ||= typeof flow === 'object' && bytes.includes(flow.answersOf);
      if (isStruckAt('question')) this.cut();
      else if (flow === 'stall') this.#toServer.push(bytes);
      else if (!isCutBy(bytes.length)) server.write(bytes);
    });
    server.on('data', (bytes) => {
      if (isStruckAt('answer')) this.cut();
      else if (this.#flow === 'mute' || this.#isMuted) this.#toClient.push(bytes);
      else if (!this.#isOrphan) client.write(bytes);
    });
    client.on('error', () => {}); // 'close' follows
    server.on('error', () => {});
    client.on('close', () => !this.#isOrphan && server.destroy());
    server.on('close', () => client.destroy());
  }

  get #flow(): Flow {
    return this.#purpose === undefined ? 'pass' : this.#flowOf(this.#purpose);
  }

  isFor(purpose: Purpose): boolean {
    return this.#purpose === purpose;
  }

  get keptBytes(): number {
    return [...this.#toServer, ...this.#toClient].reduce((sum, bytes) => sum + bytes.length, 0);
  }

  /** Passes on what was kept that this flow doesn't keep. */
  release(flow: Flow): void {
    if (flow !== 'stall') for (const bytes of this.#toServer.splice(0)) this.#server.write(bytes);
    this.#isPrepared = false;
    this.#isMuted = false;
    if (flow !== 'mute') for (const bytes of this.#toClient.splice(0)) this.#client.write(bytes);
    if (this.#isOrphan) this.#server.end();
  }

  orphan(): void {
    this.#isOrphan = true;
    this.#client.destroy();
  }

  cut(): void {
    this.#client.destroy();
    this.#server.destroy();
  }
}
