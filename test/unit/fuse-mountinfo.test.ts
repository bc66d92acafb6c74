import { describe, expect, it } from 'vitest';
import { isMounted, mountOf, parseMountinfo } from '../../src/fuse/device.ts';

const text = [
  '22 28 0:20 / /sys rw,nosuid,nodev shared:7 - sysfs sysfs rw',
  '36 35 98:0 /mnt1 /mnt\\0402\\134x\\011y\\012z rw,noatime master:1 shared:2 - ext3 /dev/root\\040a rw,errors=continue',
  '90 36 0:52 / /workspace/a rw,noatime - fuse.tarbox tarbox rw,user_id=0,group_id=0,allow_other',
  'not a line of mountinfo',
  '',
].join('\n');

describe('mountinfo', () => {
  it('is read field by field, whatever optional ones there are', () => {
    expect(parseMountinfo(text)).toEqual([
      {
        mountId: 22,
        parentId: 28,
        device: '0:20',
        root: '/',
        mountPoint: '/sys',
        options: 'rw,nosuid,nodev',
        shared: true,
        type: 'sysfs',
        source: 'sysfs',
        superOptions: 'rw',
      },
      {
        mountId: 36,
        parentId: 35,
        device: '98:0',
        root: '/mnt1',
        mountPoint: '/mnt 2\\x\ty\nz',
        options: 'rw,noatime',
        shared: true,
        type: 'ext3',
        source: '/dev/root a',
        superOptions: 'rw,errors=continue',
      },
      {
        mountId: 90,
        parentId: 36,
        device: '0:52',
        root: '/',
        mountPoint: '/workspace/a',
        options: 'rw,noatime',
        shared: false,
        type: 'fuse.tarbox',
        source: 'tarbox',
        superOptions: 'rw,user_id=0,group_id=0,allow_other',
      },
    ]);
  });

  it('finds what this machine has mounted', () => {
    expect(mountOf('/proc')?.type).toBe('proc');
    expect(mountOf('/proc/')?.type).toBe('proc');
    expect(isMounted('/proc/sys/kernel')).toBe(false);
    expect(isMounted('/no/such/directory')).toBe(false);
  });
});
