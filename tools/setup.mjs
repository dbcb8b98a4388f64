// Puts on this machine what building and testing need, and touches nothing that is already there.
//
//   node tools/setup.mjs          what `npm start` needs: CMake, Ninja, Emscripten
//   node tools/setup.mjs test     and what `npm test` needs: Clang with its sanitizers, the browsers, PyTorch
//   node tools/setup.mjs bench    what `npm run bench` needs: the first, Clang, Chromium, PyTorch
//
// Programs come from the machine's own Debian or Ubuntu packages. Emscripten must be 3.1.69 or newer
// (older ones emit relaxed-SIMD opcodes that no browser accepts), and Debian 12 has 3.1.6. There,
// Debian 13's package and its dependencies are unpacked, not installed, into .tools/root.
import { spawnSync } from 'node:child_process';
import * as fs from 'node:fs';
import { delimiter, join } from 'node:path';
import { fileURLToPath } from 'node:url';

const checkout = fileURLToPath(new URL('..', import.meta.url));
const tools = join(checkout, '.tools');
const oldestNode = '20.19';
const emscripten = { oldest: '3.1.69', suite: 'trixie' };

/** What is needed: how to tell that it is here, and the Debian packages that bring it. */
const needs = {
  build: [
    [() => newer(version('cmake'), '3.20'), 'cmake'],
    [() => program('ninja'), 'ninja-build'],
    [() => program('python3'), 'python3'], // runs Emscripten
  ],
  test: [
    [() => program('clang'), 'clang', 'libc6-dev'],
    [() => clangHas('asan') && clangHas('fuzzer'), () => `libclang-rt-${clangMajor()}-dev`],
    [() => program('llvm-symbolizer'), 'llvm'], // line numbers in the sanitizers' reports
    [() => program('clang-format'), 'clang-format'],
    [() => program('chromium'), 'chromium', 'fonts-dejavu-core'],
    [() => program('firefox-esr'), 'firefox-esr'],
    [() => program('WebKitWebDriver'), 'webkit2gtk-driver'],
    [() => program('xvfb-run'), 'xvfb', 'xauth'],
    [hasPyTorch, 'python3-torch'], // reads the checkpoints that models/df_export exports
  ],
  bench: [
    [() => program('clang'), 'clang', 'libc6-dev'],
    [() => program('chromium'), 'chromium', 'fonts-dejavu-core'],
    // PyTorch takes the machine's BLAS, and OpenBLAS is the fast one.
    [hasPyTorch, 'python3-torch'],
    [() => sharedLibrary('libopenblas.so.0'), 'libopenblas0-pthread'],
  ],
};

/** @param {'build' | 'test' | 'bench'} [purpose] */
export function setUp(purpose = 'build') {
  if (!newer(process.versions.node, oldestNode)) give(`please install Node ${oldestNode} or newer`);
  const missing = [...needs.build, ...(purpose === 'build' ? [] : needs[purpose])]
    .filter(([isHere]) => !isHere())
    .flatMap(([, ...packages]) => packages);
  install(missing);
  if (!newer(version(join(tools, 'bin/emcc')), emscripten.oldest)) setUpEmscripten();
  setUpNodeModules();
}

// ---- Emscripten ------------------------------------------------------------------------------------

/** Makes .tools/bin/emcc, emar, ...: from PATH, from the machine's packages, or from Debian 13. */
function setUpEmscripten() {
  fs.rmSync(join(tools, 'bin'), { recursive: true, force: true });
  fs.mkdirSync(join(tools, 'bin'), { recursive: true });

  if (!newer(version('emcc'), emscripten.oldest)) {
    if (!program('apt-get')) {
      give(`please put Emscripten ${emscripten.oldest} or newer on PATH (https://emscripten.org)`);
    }
    updatePackageLists();
    if (!newer(packageVersion('emscripten'), emscripten.oldest)) return unpackEmscripten();
    install(['emscripten']);
  }
  for (const tool of ['emcc', 'emar', 'emranlib']) {
    const script = join(tools, 'bin', tool);
    fs.writeFileSync(script, `#!/bin/sh\nexec "${program(tool)}" "$@"\n`, { mode: 0o755 });
  }
}

function unpackEmscripten() {
  const root = join(tools, 'root');
  const usr = join(root, 'usr');
  if (!fs.existsSync(root)) {
    // The newest keyring, because the tree is signed with keys younger than this machine may be.
    install(['mmdebstrap', 'debian-archive-keyring']);
    const unfinished = `${root}.unfinished`;
    fs.rmSync(unfinished, { recursive: true, force: true });
    run(`unpack Debian ${emscripten.suite}'s Emscripten into .tools/root`, [
      ...words('mmdebstrap --mode=chrootless --variant=extract --include=emscripten'),
      ...[...proxyOptions(), emscripten.suite, unfinished, ...debianMirror()],
    ]);
    fs.renameSync(unfinished, root);
    // Debian's own Node looks there by itself, others do not.
    fs.symlinkSync('../nodejs', join(usr, 'share/emscripten/node_modules'));
  }
  const names = [
    ...words('emcc em++ emar emranlib emnm em-config clang clang++ wasm-ld llvm-ar llvm-dwp'),
    ...words('llvm-nm llvm-objcopy llvm-objdump llvm-ranlib llvm-strip'),
    ...fs.readdirSync(join(usr, 'bin')).filter((name) => /^wasm-[a-z-]+$/.test(name)), // Binaryen
  ];
  for (const name of names) fs.symlinkSync('../../tools/in-root.sh', join(tools, 'bin', name));
  if (!newer(version(join(tools, 'bin/emcc')), emscripten.oldest)) {
    give('.tools/bin/emcc does not run (delete .tools to start over)');
  }
}

/** The mirror this machine gets Debian from, as a line of sources.list; none: mmdebstrap's own choice. */
function debianMirror() {
  const format = '$(LABEL) $(REPO_URI)';
  const lists = output('apt-get', ['indextargets', '--format', format, 'Created-By: Packages']);
  const mirror = lists.match(/^Debian (\S+)$/m);
  return mirror ? [`deb ${mirror[1]} ${emscripten.suite} main`] : [];
}

function proxyOptions() {
  const config = output('apt-config', ['dump']);
  const proxies = config.match(/^Acquire::https?::.*Proxy.* ".+";$/gim) ?? [];
  return proxies.map((line) => `--aptopt=${line}`);
}

// ---- Packages --------------------------------------------------------------------------------------

/** What makes a command run as root; null where nothing does. */
const asRoot = process.getuid?.() === 0 ? [] : program('sudo') ? ['sudo'] : null;
let listsAreFresh = false;

function updatePackageLists() {
  if (listsAreFresh || !asRoot) return;
  listsAreFresh = true; // even if some source does not answer: what is missing then, install() reports
  const [command, ...args] = [...asRoot, ...words('apt-get -q update')];
  spawnSync(command, args, { stdio: ['inherit', 'ignore', 'ignore'] });
}

/** @param {(string | (() => string))[]} packages a function names its package once the lists are fresh */
function install(packages) {
  if (!packages.length) return;
  if (program('apt-get')) updatePackageLists();
  const names = packages.map((name) => (typeof name === 'function' ? name() : name));
  if (!program('apt-get')) give(`please install ${names.join(', ')} (this machine has no apt-get)`);
  const install = 'apt-get install -y -q --no-install-recommends';
  if (!asRoot) give(`please run as root: ${install} ${names.join(' ')}`);
  const command = `env DEBIAN_FRONTEND=noninteractive ${install} -o DPkg::Lock::Timeout=300`;
  run(`install ${names.join(', ')}`, [...asRoot, ...words(command), ...names]);
}

function setUpNodeModules() {
  const lock = fs.readFileSync(join(checkout, 'package-lock.json'), 'utf8');
  const stamp = join(checkout, 'node_modules/.installed-lock');
  if (fs.existsSync(stamp) && fs.readFileSync(stamp, 'utf8') === lock) return;
  run('npm ci', ['npm', 'ci']);
  fs.writeFileSync(stamp, lock);
}

// ---- Small things ----------------------------------------------------------------------------------

/** Where on PATH a program is, or undefined. */
function program(name) {
  const places = (process.env.PATH ?? '').split(delimiter).map((folder) => join(folder, name));
  return places.find((place) => fs.existsSync(place));
}

function output(command, args) {
  return spawnSync(command, args, { encoding: 'utf8' }).stdout ?? '';
}

/** Debian's own, for /usr/bin/python3. */
function hasPyTorch() {
  return fs.existsSync('/usr/lib/python3/dist-packages/torch');
}

/** Does the dynamic linker know it? */
function sharedLibrary(name) {
  return output('/sbin/ldconfig', ['-p']).includes(name);
}

/** The first number with dots that `program --version` prints; '0' where it does not run. */
function version(name) {
  return output(name, ['--version']).match(/\d+(\.\d+)+/)?.[0] ?? '0';
}

function packageVersion(name) {
  const policy = output('apt-cache', ['policy', name]);
  return policy.match(/Candidate: (?:\d+:)?(\d+(\.\d+)+)/)?.[1] ?? '0';
}

/** Is version a the same as b or newer? */
function newer(a, b) {
  return a.localeCompare(b, 'en', { numeric: true }) >= 0;
}

function clangMajor() {
  const known = program('clang') ? version('clang') : output('apt-cache', ['depends', 'clang']);
  return known.match(/(?:clang-|^)(\d+)/)?.[1];
}

function clangHas(runtime) {
  const arch = process.arch === 'arm64' ? 'aarch64' : 'x86_64';
  const file = `libclang_rt.${runtime}-${arch}.a`;
  return fs.existsSync(output('clang', [`-print-file-name=${file}`]).trim());
}

function words(command) {
  return command.split(' ');
}

/** One line that says what is done and how long it took; on failure what failed, and its last words. */
function run(title, [command, ...args]) {
  const start = Date.now();
  process.stdout.write(`set-up: ${title} ... `);
  const options = { cwd: checkout, encoding: 'utf8', maxBuffer: 1 << 28 };
  const { status, error, stdout, stderr } = spawnSync(command, args, options);
  console.log(`${((Date.now() - start) / 1000).toFixed(0)} s`);
  if (status === 0) return;
  const lines = `${stdout ?? ''}${stderr ?? ''}${error ?? ''}`.trim().split('\n');
  console.error(lines.slice(-15).join('\n'));
  give(`this failed: ${[command, ...args].join(' ')}`);
}

function give(reason) {
  console.error(`set-up: ${reason}`);
  process.exit(1);
}

if (process.argv[1] === fileURLToPath(import.meta.url)) setUp(process.argv[2]);
