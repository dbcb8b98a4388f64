// Child processes of the benchmark. Whatever ends it, ends them.
import { spawn } from 'node:child_process';
import { join } from 'node:path';

const children = new Set();
process.once('exit', () => children.forEach((child) => child.kill('SIGKILL')));

/** Standard output of a program; lines of its standard error go to `say`. */
export function run(command, args, { env = process.env, say } = {}) {
  return new Promise((resolve, reject) => {
    const child = spawn(command, args.map(String), { env, stdio: ['ignore', 'pipe', 'pipe'] });
    children.add(child);
    let output = '';
    let errors = '';
    child.stdout.setEncoding('utf8').on('data', (text) => (output += text));
    child.stderr.setEncoding('utf8').on('data', (text) => {
      errors += text;
      if (say) text.trim().split('\n').forEach(say);
    });
    child.on('error', reject);
    child.on('close', (status) => {
      children.delete(child);
      if (status === 0) return resolve(output);
      const last = errors.trim().split('\n').slice(-8).join('\n');
      reject(new Error(`${command} ${args.join(' ')}: status ${status}\n${last}`));
    });
  });
}

/**
 * A script beside this file in the Python that has PyTorch, which prints JSON. PyTorch's own setting
 * of threads does not reach OpenBLAS, and idle threads of the one would spin beside busy ones of the
 * other. OpenBLAS may choose its kernels by the processor: variables that hold
 * OpenBLAS to an older one are taken away.
 */
export async function python(script, args, threads = 1) {
  const env = {
    ...process.env,
    OPENBLAS_NUM_THREADS: threads,
    OMP_NUM_THREADS: threads,
    OMP_WAIT_POLICY: 'PASSIVE',
  };
  delete env.OPENBLAS_CORETYPE;
  delete env.OPENBLAS_L2_SIZE;
  const output = await run('/usr/bin/python3', [join(import.meta.dirname, script), ...args], {
    env,
  });
  return JSON.parse(output);
}

let newestNode;

/** A Node whose V8 is that of a current browser: this one, or version 24 from npm. */
export async function currentNode() {
  if (Number(process.versions.node.split('.')[0]) >= 24) return process.execPath;
  newestNode ??= run('npx', ['-y', 'node@24', '-p', 'process.execPath']);
  return (await newestNode).trim();
}
