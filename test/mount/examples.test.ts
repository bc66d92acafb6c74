import { readFileSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { execa, execaSync } from 'execa';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { missingForMounts, startTarbox, type Tarbox } from '../support/tarbox.ts';

const EXAMPLES = resolve(import.meta.dirname, '../../examples');
const missing = missingForMounts();
const unless = missing === undefined ? '' : ` (skipped: this machine lacks ${missing})`;
const succeeds = (program: string, ...args: string[]) => execaSync(program, args, { reject: false }).exitCode === 0;
const skip = (lacks: string, has: boolean) => (has ? '' : ` (skipped: this machine lacks ${lacks})`);
const hasPython = succeeds('python3', '--version');
const hasYaml = succeeds('python3', '-c', 'import yaml');
const hasSchemas = succeeds('kubernetes-validate', '--help');

describe.skipIf(missing !== undefined)(`the example agents${unless}`, () => {
  let tarbox: Tarbox;
  beforeAll(async () => {
    tarbox = await startTarbox();
  });
  afterAll(() => tarbox.remove());

  const run = (...command: [string, ...string[]]) => {
    const [program, ...args] = command;
    return execa(join(EXAMPLES, program), args, { reject: false, timeout: 60_000 });
  };
  const read = (name: string) => readFileSync(join(tarbox.mount, name), 'utf8');
  const sh = (script: string) => execa('sh', ['-ec', script], { cwd: tarbox.mount });

  it('in shell: keeps what a command did, or undoes it and shows it', async () => {
    await sh('echo one > file');
    expect(await run('agent.sh', tarbox.mount, 'sh', '-c', 'echo two > file')).toMatchObject({ exitCode: 0 });
    expect(read('file')).toBe('two\n');
    for (let round = 0; round < 2; round++) {
      const failed = await run('agent.sh', tarbox.mount, 'sh', '-c', 'echo three > file; touch more; exit 3');
      expect(failed.exitCode, failed.stderr).toBe(3);
      expect(failed.stdout).toMatch(/^-two\n\+three$/m);
      expect(read('file')).toBe('two\n');
      expect((await sh('ls')).stdout).toBe('file');
    }
    const undo = (await run('agent.sh', tarbox.mount, 'rm', 'file')).stdout.match(/before-\S+/)?.[0];
    await sh(`echo ${undo} > .tarbox/layers/switch`);
    expect(read('file')).toBe('two\n');
  });

  it.skipIf(!hasPython)(`in Python: keeps the first way that passes${skip('python3', hasPython)}`, async () => {
    await sh('rm -rf *; echo start > file');
    const ways = ['echo wrong > file; touch left', 'exit 1', 'echo right > file', 'echo never > file'];
    const { stdout, stderr, exitCode } = await run('agent.py', tarbox.mount, 'grep -q right file', ...ways);
    expect(exitCode, stderr).toBe(0);
    expect(stdout.split('\n')).toEqual([
      'way 1: 2 changes, failed',
      'way 2: 0 changes, failed',
      'way 3: 1 changes, passed',
    ]);
    expect((await sh('ls; cat file')).stdout).toBe('file\nright');
    expect((await sh('cat .tarbox/snapshots/failed-*-1/file')).stdout).toBe('wrong');
    expect(await run('agent.py', tarbox.mount, 'false', 'rm file')).toMatchObject({ exitCode: 1 });
    expect(read('file')).toBe('right\n');
  });

  it.skipIf(!hasPython)(`in Python: says why a command is refused${skip('python3', hasPython)}`, async () => {
    const script = [
      'import sys; sys.path.insert(0, sys.argv[1])',
      'import agent; agent.Workspace(sys.argv[2]).switch("nowhere")',
    ].join('\n');
    const { stderr } = await execa('python3', ['-B', '-c', script, EXAMPLES, tarbox.mount], { reject: false });
    expect(stderr).toMatch(/FileNotFoundError: .*nowhere/);
  });
});

/** Of a manifest, what is looked at here. */
interface Container {
  readonly name: string;
  readonly restartPolicy?: string;
  readonly securityContext?: { readonly privileged?: boolean };
  readonly volumeMounts: readonly { readonly mountPath: string; readonly mountPropagation?: string }[];
  readonly [probe: `${string}Probe`]: { readonly exec: { readonly command: readonly string[] } };
}

interface Manifest {
  readonly kind: string;
  readonly spec: Spec & { readonly template?: { readonly spec: Spec } };
}

interface Spec {
  readonly shareProcessNamespace?: boolean;
  readonly terminationGracePeriodSeconds?: number;
  readonly initContainers?: readonly Container[];
  readonly containers?: readonly Container[];
}

describe.each(['pod.yaml', 'deployment.yaml'])('examples/kubernetes/%s', (name) => {
  const file = join(EXAMPLES, 'kubernetes', name);

  it.skipIf(!hasYaml)(`has a native sidecar that propagates its mount to the agent${skip('PyYAML', hasYaml)}`, () => {
    const script = 'import json, sys, yaml; print(json.dumps(list(yaml.safe_load_all(open(sys.argv[1])))))';
    const { stdout } = execaSync('python3', ['-c', script, file]);
    const manifests: Manifest[] = JSON.parse(stdout);
    const specs = manifests.map(({ spec }) => spec?.template?.spec ?? spec).filter((spec) => spec?.containers);
    expect(specs).toHaveLength(1);
    const [spec] = specs;
    expect(spec).toMatchObject({ shareProcessNamespace: true, terminationGracePeriodSeconds: 45 });
    const [sidecar] = spec?.initContainers ?? [];
    const [agent] = spec?.containers ?? [];
    expect(sidecar).toMatchObject({ restartPolicy: 'Always', securityContext: { privileged: true } });
    for (const probe of ['startupProbe', 'readinessProbe', 'livenessProbe'] as const)
      expect(sidecar?.[probe]?.exec.command).toEqual(['tarbox-health']);
    const propagation = (container: Container | undefined) =>
      container?.volumeMounts.find(({ mountPath }) => mountPath === '/workspace')?.mountPropagation;
    expect(propagation(sidecar)).toBe('Bidirectional');
    expect(propagation(agent)).toBe('HostToContainer');
    expect(agent?.securityContext?.privileged).toBeUndefined();
  });

  it.skipIf(!hasSchemas)(`is valid${skip('kubernetes-validate', hasSchemas)}`, () => {
    const { exitCode, all } = execaSync('kubernetes-validate', ['--strict', file], { reject: false, all: true });
    expect(exitCode, all).toBe(0);
  });
});
