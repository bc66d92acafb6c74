import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { traceReply, traceRequest } from '../../src/fuse/trace.ts';
import * as abi from '../../src/fuse/wire/abi.ts';
import { OPCODE, operationOf, operations } from '../../src/fuse/wire/operations.ts';

interface Parts {
  readonly opcode: number;
  readonly body?: Buffer;
  readonly header?: Partial<ReturnType<typeof abi.inHeader.blank>>;
}

/** A whole request from uid 0, pid 12 on node 1, with unique 42. */
function request({ opcode, body = Buffer.alloc(0), header = {} }: Parts): Buffer {
  const buffer = Buffer.alloc(abi.inHeader.size + body.length);
  const value = { ...abi.inHeader.blank(), len: buffer.length, opcode, uniqueLo: 42, nodeidLo: 1, pid: 12, ...header };
  abi.inHeader.writer()(buffer, 0, value);
  body.copy(buffer, abi.inHeader.size);
  return buffer;
}

const trace = (parts: Parts): string => {
  const buffer = request(parts);
  return traceRequest(buffer, buffer.length);
};

describe('the trace of a request', () => {
  it('says who asks what of which node', () => {
    expect(trace({ opcode: OPCODE.LOOKUP, body: Buffer.from('a"\n\xff\0', 'latin1') })).toBe(
      '#42 LOOKUP node 1 name "a\\"\\n\\xff" uid 0 gid 0 pid 12',
    );
  });

  it('gives nodeids exactly', () => {
    expect(trace({ opcode: OPCODE.STATFS, header: { nodeidLo: 7, nodeidHi: 0xfffff000 } })).toContain(
      `node ${(0xfffff000n << 32n) | 7n} `,
    );
  });

  it('marks a request that was sent again', () => {
    expect(trace({ opcode: OPCODE.STATFS, header: { uniqueHi: 0x8000_0000 } })).toMatch(/^#42 again STATFS /);
  });

  it('shows arguments that are not zero, modes in octal and flags in hexadecimal', () => {
    const body = Buffer.alloc(abi.createIn.size + 5);
    abi.createIn.writer()(body, 0, { flags: 0x8042, mode: 0o100644, umask: 0o22, openFlags: 0 });
    body.write('file', abi.createIn.size);
    expect(trace({ opcode: OPCODE.CREATE, body })).toBe(
      '#42 CREATE node 1 flags 0x8042 mode 100644 umask 22 name "file" uid 0 gid 0 pid 12',
    );
  });

  it('shows both names of a rename', () => {
    const body = Buffer.alloc(abi.rename2In.size + 4);
    abi.rename2In.writer()(body, 0, { newdirLo: 5, newdirHi: 0, flags: 1 });
    body.write('a\0b\0', abi.rename2In.size);
    expect(trace({ opcode: OPCODE.RENAME2, body })).toContain(' newdir 5 flags 0x1 name "a" to "b" ');
  });

  it('shows how much is written, never what', () => {
    const body = Buffer.alloc(abi.writeIn.size + 6);
    abi.writeIn.writer()(body, 0, { ...abi.writeIn.blank(), fh: 3, offset: 10, size: 6 });
    body.write('secret', abi.writeIn.size);
    const line = trace({ opcode: OPCODE.WRITE, body });
    expect(line).toContain(' fh 3 offset 10 size 6 data 6 bytes ');
    expect(line).not.toContain('secret');
  });

  it('never shows the value of an extended attribute, in either form of the request', () => {
    const rest = Buffer.from('user.k\0secret');
    const long = Buffer.concat([Buffer.alloc(abi.setxattrIn.size), rest]);
    const short = request({ opcode: OPCODE.SETXATTR, body: Buffer.concat([Buffer.alloc(8), rest]) });
    expect(trace({ opcode: OPCODE.SETXATTR, body: long })).toContain(' name "user.k" data 6 bytes ');
    expect(traceRequest(short, short.length, false)).toContain(' name "user.k" data 6 bytes ');
  });

  it('cuts a long target and says how long it is', () => {
    const body = Buffer.from(`l\0${'x'.repeat(4000)}\0`);
    const line = trace({ opcode: OPCODE.SYMLINK, body });
    expect(line).toContain('name "l" target "xxx');
    expect(line).toContain('"… (4000 bytes)');
    expect(line.length).toBeLessThan(400);
  });

  it('takes INIT of a kernel that sends 16 bytes', () => {
    const body = Buffer.alloc(16);
    body.writeUInt32LE(7, 0);
    body.writeUInt32LE(31, 4);
    expect(trace({ opcode: OPCODE.INIT, body })).toContain(' major 7 minor 31 ');
  });

  it('tells extensions from names', () => {
    const body = Buffer.concat([Buffer.from('a\0'), Buffer.alloc(16, 1)]);
    const line = trace({ opcode: OPCODE.LOOKUP, body, header: { totalExtlen: 2 } });
    expect(line).toBe('#42 LOOKUP node 1 name "a" extensions 16 bytes uid 0 gid 0 pid 12');
  });

  it('names what is wrong with a malformed one', () => {
    expect(traceRequest(Buffer.alloc(3), 3)).toBe('malformed request: 3 bytes are less than a header');
    expect(trace({ opcode: OPCODE.LOOKUP, header: { len: 99 } })).toContain('malformed: its header says 99 bytes');
    expect(trace({ opcode: OPCODE.LOOKUP, body: Buffer.from('abc') })).toContain('malformed: name 1 of 1 has no end');
    expect(trace({ opcode: OPCODE.OPEN, body: Buffer.alloc(3) })).toContain('malformed: 3 of 8 bytes of openIn');
    expect(trace({ opcode: OPCODE.LOOKUP, header: { totalExtlen: 9 } })).toContain('malformed: extensions of 72 bytes');
    expect(trace({ opcode: 99 })).toContain('#42 opcode 99 node 1');
  });

  it('is one printable line, whatever the bytes', () => {
    const opcodeOf = fc.oneof(fc.constantFrom(...Object.values(OPCODE)), fc.nat());
    fc.assert(
      fc.property(opcodeOf, fc.uint8Array({ maxLength: 200 }), fc.nat(400), (opcode, bytes, length) => {
        const whole = request({ opcode, body: Buffer.from(bytes) });
        expect(traceRequest(whole, whole.length)).toMatch(/^[ -~…]+$/);
        expect(traceRequest(Buffer.from(bytes), length)).toMatch(/^[ -~…]+$/);
      }),
      { numRuns: 2000 },
    );
  });
});

describe('the trace of a reply', () => {
  it('names an error, of either sign', () => {
    expect(traceReply(42, 0, 2, OPCODE.LOOKUP, undefined)).toBe('#42 → ENOENT');
    expect(traceReply(42, 0, -2, OPCODE.LOOKUP, Buffer.alloc(0))).toBe('#42 → ENOENT');
  });

  it('shows an entry', () => {
    const payload = Buffer.alloc(abi.entryOut.size);
    abi.entryOut.writer()(payload, 0, { ...abi.entryOut.blank(), nodeidLo: 12, mode: 0o100644, size: 5 });
    expect(traceReply(42, 0, 0, OPCODE.LOOKUP, payload)).toBe('#42 → node 12 size 5 mode 100644');
  });

  it('shows the handle that CREATE answers after the entry', () => {
    const payload = Buffer.alloc(abi.entryOut.size + abi.openOut.size);
    abi.entryOut.writer()(payload, 0, { ...abi.entryOut.blank(), nodeidLo: 12 });
    abi.openOut.writer()(payload, abi.entryOut.size, { fh: 3, openFlags: 2, backingId: 0 });
    expect(traceReply(42, 0, 0, OPCODE.CREATE, payload)).toBe('#42 → node 12 fh 3 openFlags 0x2');
  });

  it('shows how much was read, never what', () => {
    expect(traceReply(42, 0, 0, OPCODE.READ, Buffer.from('secret'))).toBe('#42 → 6 bytes');
    expect(traceReply(42, 0, 0, OPCODE.GETXATTR, Buffer.from('secret!!'))).toBe('#42 → 8 bytes');
  });

  it('says ok when there is nothing more', () => {
    expect(traceReply(42, 0, 0, OPCODE.UNLINK, undefined)).toBe('#42 → ok');
  });

  it('is one printable line, whatever the bytes', () => {
    fc.assert(
      fc.property(fc.nat(70), fc.integer(), fc.uint8Array({ maxLength: 300 }), (opcode, errno, bytes) => {
        expect(traceReply(1, 2, errno % 3, opcode, Buffer.from(bytes))).toMatch(/^#[0-9]+ → [ -~]+$/);
      }),
    );
  });

  it('knows every operation', () => {
    for (const { opcode } of operations) expect(operationOf(opcode)).toBeDefined();
  });
});
