// Formats the C files, or with --check only says which are not formatted.
import { spawnSync } from 'node:child_process';

const reference = '14'; // Debian 12's. Other versions format a few lines otherwise; their word is not law.
const output = (command, ...args) => spawnSync(command, args, { encoding: 'utf8' }).stdout;

const found = output('clang-format', '--version').match(/version (\d+)/)?.[1];
if (found !== reference) {
  console.log(`clang-format ${reference} is the reference and ${found} is here: not checked`);
  process.exit(0);
}
const files = output('git', 'ls-files', '--cached', '--others', '--exclude-standard', 'src/*.[ch]');
const mode = process.argv.includes('--check') ? ['--dry-run', '-Werror'] : ['-i'];
const args = [...mode, ...files.trim().split('\n').filter(Boolean)];
process.exitCode = spawnSync('clang-format', args, { stdio: 'inherit' }).status ?? 1;
