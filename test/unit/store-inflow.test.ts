import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { Inflow } from '../../src/store/inflow.ts';

function message(type: string, body: Buffer): Buffer {
  const head = Buffer.alloc(5);
  head.write(type, 0, 'latin1');
  head.writeInt32BE(body.length + 4, 1);
  return Buffer.concat([head, body]);
}

function cut(bytes: Buffer, at: readonly number[]): Buffer[] {
  const places = [0, ...at.map((place) => place % (bytes.length + 1)).sort((a, b) => a - b), bytes.length];
  return places.slice(1).map((end, index) => bytes.subarray(places[index], end));
}

/** Feeds the parts in through one buffer that is used again and again, as a socket does. */
function feed(inflow: Inflow, parts: readonly Buffer[]): void {
  const buffer = Buffer.alloc(Math.max(0, ...parts.map(({ length }) => length)));
  for (const part of parts) {
    part.copy(buffer);
    inflow.take(buffer.subarray(0, part.length));
    buffer.fill(0xee);
  }
}

const messages = fc.array(
  fc.record({
    type: fc.constantFrom('d', 'd', 'T', 'S', 'H', 'Z'),
    body: fc.uint8Array({ maxLength: 40 }).map((bytes) => Buffer.from(bytes)),
  }),
  { maxLength: 12 },
);
const cuts = fc.array(fc.nat(), { maxLength: 30 });

describe('what arrives on a connection', () => {
  it('passes as it is while nothing is diverted, cut anywhere', () => {
    fc.assert(
      fc.property(messages, cuts, (list, at) => {
        const bytes = Buffer.concat(list.map(({ type, body }) => message(type, body)));
        const passed: Buffer[] = [];
        feed(new Inflow((part) => passed.push(Buffer.from(part))), cut(bytes, at));
        expect(Buffer.concat(passed).equals(bytes)).toBe(true);
      }),
    );
  });

  it('loses the bodies of its CopyData messages, and nothing else, to who diverts them, cut anywhere', () => {
    fc.assert(
      fc.property(messages, cuts, (list, at) => {
        const passed: Buffer[] = [];
        const taken: Buffer[] = [];
        const inflow = new Inflow((part) => passed.push(Buffer.from(part)));
        inflow.divert((part) => taken.push(Buffer.from(part)));
        feed(inflow, cut(Buffer.concat(list.map(({ type, body }) => message(type, body))), at));
        const of = (diverted: boolean) => list.filter(({ type }) => (type === 'd') === diverted);
        const others = of(false).map(({ type, body }) => message(type, body));
        expect(Buffer.concat(taken).equals(Buffer.concat(of(true).map(({ body }) => body)))).toBe(true);
        expect(Buffer.concat(passed).equals(Buffer.concat(others))).toBe(true);
      }),
    );
  });

  it('is diverted from the part on that follows the one that made someone ask for it, message by message', () => {
    const seen: string[] = [];
    const inflow = new Inflow((part) => {
      seen.push(`passed ${part.toString('latin1').replace(/[^A-Za-z]/g, '')}`);
      if (part.includes('begin')) inflow.divert((body) => seen.push(`taken ${body.toString('latin1')}`));
      if (part.includes('end')) inflow.divert(undefined);
    });
    const data = (text: string) => message('d', Buffer.from(text));
    const start = Buffer.concat([message('H', Buffer.from('begin')), data('one'), data('two').subarray(0, 6)]);
    // The message that had begun to pass passes whole: whoever gets it knows what a message is.
    inflow.take(start);
    inflow.take(Buffer.concat([data('two').subarray(6), data('three')]));
    inflow.take(Buffer.concat([message('c', Buffer.from('end')), message('Z', Buffer.from('idle'))]));
    inflow.take(data('four'));
    expect(seen).toEqual(['passed Hbegindonedt', 'passed wo', 'taken three', 'passed cendZidle', 'passed dfour']);
  });
});
