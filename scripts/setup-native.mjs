#!/usr/bin/env node
/**
 * Links @tensorflow/tfjs-node-gpu to the TensorFlow inside pip's wheel; its own install step would
 * fetch a library of 2022 that knows no recent GPU.
 *
 *   node scripts/setup-native.mjs [--cpu | --gpu] [--check] [--quiet] [--force]
 *
 *   --cpu, --gpu  which TensorFlow (default: LIBRA_DEVICE, else gpu where an NVIDIA driver is seen)
 *   --check       change nothing: hash every library and load it; exit 1 if that fails
 *   --quiet       say nothing when all is up to date
 *   --force       link and compile again
 *
 * 1. pip fetches the wheels (and checks their hashes); libraries and headers are unpacked, one
 *    folder per wheel, into the user's cache folder, since `npm ci` empties node_modules.
 * 2. A C++ compiler builds the package's two-file binding against them, together with Libra's own ops
 *    (src/tensor/native), once per instruction set.
 * 3. Links in the package's deps/ point to the libraries; a stamp makes the next start fast.
 *
 * 4. The sources are bundled, for a fast start (bundle.mjs).
 *
 * Folders appear by rename only, so an interruption leaves nothing that looks complete.
 */
import { spawn, spawnSync } from 'node:child_process'
import { createHash } from 'node:crypto'
import * as fs from 'node:fs'
import { homedir, hostname } from 'node:os'
import { basename, delimiter, dirname, join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { bundle } from './bundle.mjs'

const TENSORFLOW = '2.21.0'
/** What TensorFlow 2.21 opens at run time: CUDA 12.5, cuDNN 9.3. Without one of them it registers no GPU. */
const CUDA = [
  'nvidia-cuda-runtime-cu12==12.5.82',
  'nvidia-cublas-cu12==12.5.3.2',
  'nvidia-cufft-cu12==11.2.3.61',
  'nvidia-cusolver-cu12==11.6.3.83',
  'nvidia-cusparse-cu12==12.5.1.3',
  'nvidia-nvjitlink-cu12==12.5.82',
  'nvidia-cudnn-cu12==9.3.0.75',
]
/** Download sizes in MB, for the progress line and the check of free space. */
const MEGABYTES = { 'tensorflow-cpu': 274, tensorflow: 573, cuda: 1504 }
/** Raise it when the way of unpacking, compiling or linking changes. */
const RECIPE = 1
/** Raise it when the binding's patches change. */
const BINDING = 2
const NAPI = 8

const root = dirname(dirname(fileURLToPath(import.meta.url)))
const pkg = join(root, 'node_modules/@tensorflow/tfjs-node-gpu')
const stampFile = join(pkg, 'deps/libra-setup.json')
const bindingFile = join(pkg, `lib/napi-v${NAPI}/tfjs_binding.node`)
const platform = `${process.platform}-${process.arch}`
const suffix = process.platform === 'darwin' ? '2.dylib' : 'so.2'
const args = new Set(process.argv.slice(2))

const say = (text) => process.stderr.write(`setup: ${text}\n`)
class SetupError extends Error {}
const readJson = (path) => {
  try {
    return JSON.parse(fs.readFileSync(path, 'utf8'))
  } catch {
    return null
  }
}
const bytesOf = (path) => fs.statSync(path, { throwIfNoEntry: false })?.size

/* ---- which TensorFlow ------------------------------------------------------------------------- */

const onPath = (command) =>
  (process.env.PATH ?? '')
    .split(delimiter)
    .map((folder) => join(folder, command))
    .find((file) => fs.existsSync(file))
const nvidia = () =>
  ['/dev/nvidiactl', '/proc/driver/nvidia/version', '/usr/lib/wsl/lib/libcuda.so.1'].some((f) =>
    fs.existsSync(f),
  )

function chooseDevice(stamp) {
  const wish = process.env.LIBRA_DEVICE
  const forced = args.has('--gpu') ? 'gpu' : args.has('--cpu') ? 'cpu' : null
  const device =
    forced ??
    (wish === 'cpu' || wish === 'gpu' ? wish : null) ??
    (stamp?.forced ? stamp.device : null) ?? // a choice once made on the command line stays
    (platform === 'linux-x64' && nvidia() ? 'gpu' : 'cpu')
  if (device === 'gpu' && platform !== 'linux-x64')
    throw new SetupError(`--gpu: TensorFlow has GPU wheels for linux-x64 only, this is ${platform}`)
  return { device, forced: forced !== null || Boolean(stamp?.forced && stamp.device === device) }
}

const native = join(root, 'src/tensor/native')
const ownOps = () => {
  const hash = createHash('sha256')
  for (const name of fs.readdirSync(native).sort()) hash.update(fs.readFileSync(join(native, name)))
  return hash.digest('hex').slice(0, 16)
}
const keyOf = (device) =>
  `tensorflow-${TENSORFLOW} ${device} ${platform} recipe-${RECIPE}.${BINDING} ops-${ownOps()}`

function isCurrent(stamp, device) {
  return (
    stamp?.key === keyOf(device) &&
    Object.entries(stamp.files).every(([file, bytes]) => bytesOf(join(pkg, file)) === bytes)
  )
}

/* ---- cache, lock, children -------------------------------------------------------------------- */

function openCache() {
  const wanted = join(process.env.XDG_CACHE_HOME || join(homedir(), '.cache'), 'libra')
  for (const folder of [wanted, join(root, 'node_modules/.cache/libra')])
    try {
      fs.mkdirSync(folder, { recursive: true })
      fs.accessSync(folder, fs.constants.W_OK)
      return folder
    } catch {
      say(`cannot write to ${folder} (XDG_CACHE_HOME chooses another folder)`)
    }
  throw new SetupError('no folder for the libraries')
}

/** One set-up at a time: a file with its owner; taken over when the owner is gone or silent for 30 s. */
async function lock(cache) {
  const file = join(cache, 'setup.lock')
  const owner = `${process.pid} ${hostname()}`
  for (let waits = 0; ; waits++) {
    try {
      fs.writeFileSync(file, owner, { flag: 'wx' })
      break
    } catch (error) {
      if (error.code !== 'EEXIST') throw error
    }
    if (isAbandoned(file)) fs.rmSync(file, { force: true })
    else {
      if (waits === 2) say('waiting for another set-up to finish')
      await new Promise((resolve) => setTimeout(resolve, 300 + 200 * Math.random()))
    }
  }
  const beat = setInterval(() => fs.utimes(file, new Date(), new Date(), () => {}), 5000).unref()
  return () => {
    clearInterval(beat)
    if (read(file) === owner) fs.rmSync(file, { force: true })
  }
}
const read = (file) => {
  try {
    return fs.readFileSync(file, 'utf8')
  } catch {
    return ''
  }
}
function isAbandoned(file) {
  const stat = fs.statSync(file, { throwIfNoEntry: false })
  if (stat === undefined) return false
  if (Date.now() - stat.mtimeMs > 30_000) return true
  const [pid, host] = read(file).split(' ')
  if (host !== hostname() || Number(pid) === process.pid) return false
  try {
    process.kill(Number(pid), 0)
    return false
  } catch (error) {
    return error.code === 'ESRCH'
  }
}

let child = null
/** Runs a command to its end: resolves to what it printed; rejects with the end of its errors. */
function run(command, parameters, options = {}) {
  return new Promise((resolve, reject) => {
    child = spawn(command, parameters, { stdio: ['ignore', 'pipe', 'pipe'], ...options })
    let [out, err] = ['', '']
    child.stdout.on('data', (data) => (out += data))
    child.stderr.on('data', (data) => (err += data))
    child.on('error', reject)
    child.on('close', (code, signal) => {
      child = null
      if (code === 0) resolve(out)
      else
        reject(
          new SetupError(`${basename(command)} failed (${signal ?? code}):\n${err.slice(-2000)}`),
        )
    })
  })
}

/* ---- 1. wheels -------------------------------------------------------------------------------- */

/** A python with pip: the machine's, else a private one made from python's own venv. */
async function findPip(tmp) {
  const works = (command, ...rest) => spawnSync(command, rest, { stdio: 'ignore' }).status === 0
  const python = ['python3', 'python'].find((name) =>
    works(name, '-c', 'import sys; sys.exit(sys.version_info < (3, 8))'),
  )
  const hint = 'On Debian or Ubuntu: apt-get install python3-pip'
  if (!python)
    throw new SetupError(`Python 3.8 or newer is missing; it fetches TensorFlow. ${hint}`)
  if (works(python, '-m', 'pip', '--version')) return python
  say('python has no pip: making a private one')
  const venv = join(tmp, 'venv')
  if (!works(python, '-m', 'venv', venv))
    throw new SetupError(`Python has no pip and no venv. ${hint}`)
  return join(venv, 'bin/python')
}

/** Unpacks what is needed of a wheel and prints the files as JSON; deps/ has the same layout. */
const UNPACK = `
import hashlib, json, os, re, sys, zipfile
wheel, target = sys.argv[1:]
rules = [
  (r'tensorflow/(libtensorflow_(?:cc|framework)\\.(?:so\\.2|2\\.dylib))', r'lib/\\1'),
  (r'tensorflow/(include/tensorflow/c/(?:eager/c_api[^/]*|[^/]+)\\.h)', r'\\1'),
  (r'tensorflow/(include/(?:.*/)?(?:ctstring(?:_internal)?|tsl_status(?:_internal)?|tf_tstring)\\.h)', r'\\1'),
  (r'(tensorflow[^/]*\\.libs/[^/]+)', r'\\1'),
  # one flat folder: TensorFlow's search path misses cusolver in the wheels' own layout
  (r'nvidia/[^/]+/lib/(lib[^/]+\\.so[^/]*)', r'nvidia/cuda_runtime/lib/\\1'),
]
files = {}
with zipfile.ZipFile(wheel) as archive:
  for item in archive.infolist():
    for pattern, name in rules:
      match = re.fullmatch(pattern, item.filename)
      if not match: continue
      name = match.expand(name)
      path = os.path.join(target, name)
      os.makedirs(os.path.dirname(path), exist_ok=True)
      digest = hashlib.sha256()
      with archive.open(item) as source, open(path, 'wb') as out:
        while block := source.read(1 << 20):
          digest.update(block)
          out.write(block)
        out.flush()
        os.fsync(out.fileno())
      files[name] = {'bytes': item.file_size, 'sha256': digest.hexdigest()}
      break
print(json.dumps(files))
`

/** The folder of one wheel in the cache, fetched if it is not there whole. */
async function wheel(requirement, cache, tmp, pip, progress) {
  const folder = join(cache, `${requirement.replace('==', '-')}-${platform}-r${RECIPE}`)
  const known = readJson(join(folder, 'manifest.json'))
  if (known && (await isIntact(folder, known.files))) return { folder, files: known.files }

  const work = fs.mkdtempSync(join(tmp, 'wheel-'))
  const download = ['-m', 'pip', 'download', '-q', '--disable-pip-version-check', '--no-cache-dir']
  // any Python will do: the library inside is the same for every version of it
  const select = ['--no-deps', '--only-binary=:all:', '--python-version', '3.11']
  const stop = progress(requirement, work)
  try {
    for (let attempt = 1; ; attempt++)
      try {
        await run(await pip(), [...download, ...select, '-d', work, requirement], {
          env: { ...process.env, TMPDIR: work },
        })
        break
      } catch (error) {
        if (
          !(error instanceof SetupError) ||
          attempt === 3 ||
          /No matching dist/.test(error.message)
        )
          throw new SetupError(
            `cannot fetch ${requirement}: ${error.message}\nIt needs the network (or pip's own settings for an index or a proxy) and a 64-bit Python with glibc.`,
          )
        say(`download failed, trying again (${attempt} of 3)`)
        await new Promise((resolve) => setTimeout(resolve, 3000 * attempt))
      }
  } finally {
    stop()
  }
  const file = fs.readdirSync(work).find((name) => name.endsWith('.whl'))
  const unpacked = join(work, 'unpacked')
  fs.mkdirSync(unpacked)
  const files = JSON.parse(await run(await pip(), ['-c', UNPACK, join(work, file), unpacked]))
  if (Object.keys(files).length === 0) throw new SetupError(`${file} holds no library`)
  fs.writeFileSync(
    join(unpacked, 'manifest.json'),
    JSON.stringify({ wheel: file, sha256: await sha256(join(work, file)), files }, null, 1),
  )
  fs.rmSync(folder, { recursive: true, force: true })
  fs.renameSync(unpacked, folder)
  fs.rmSync(work, { recursive: true, force: true })
  return { folder, files }
}

async function sha256(file) {
  const hash = createHash('sha256')
  for await (const block of fs.createReadStream(file, { highWaterMark: 1 << 20 }))
    hash.update(block)
  return hash.digest('hex')
}
async function isIntact(folder, files) {
  for (const [name, { bytes, sha256: expected }] of Object.entries(files))
    if (bytesOf(join(folder, name)) !== bytes || (await sha256(join(folder, name))) !== expected) {
      say(`${join(folder, name)} is damaged`)
      return false
    }
  return true
}

/** Shows how much has arrived: a line that moves on a terminal, one line each 10 s elsewhere. */
function progressOf(total) {
  let before = 0
  return (requirement, folder) => {
    const began = Date.now()
    const size = (path) =>
      fs.readdirSync(path, { withFileTypes: true }).reduce((sum, entry) => {
        const inside = join(path, entry.name)
        return sum + (entry.isDirectory() ? size(inside) : (bytesOf(inside) ?? 0))
      }, 0)
    const show = (end) => {
      let megabytes = 0
      try {
        megabytes = size(folder) / 1e6
      } catch {
        return // a file went away while it was counted
      }
      const rate = (megabytes * 1000) / Math.max(1, Date.now() - began)
      const done = Math.min(total, before + megabytes)
      const line = `setup: fetching ${requirement}  ${done.toFixed(0)} of ${total} MB  ${rate.toFixed(1)} MB/s`
      process.stderr.write(process.stderr.isTTY ? `\r${line}\x1b[K${end ? '\n' : ''}` : `${line}\n`)
      if (end) before += megabytes
    }
    const timer = setInterval(show, process.stderr.isTTY ? 500 : 10_000, false)
    return () => {
      clearInterval(timer)
      show(true)
    }
  }
}

function checkSpace(cache, megabytes) {
  const { bavail, bsize } = fs.statfsSync(cache)
  const free = (bavail * bsize) / 1e6
  const needed = megabytes * 4 // the wheel, and what is unpacked of it
  if (free < needed)
    throw new SetupError(
      `${cache} has ${free.toFixed(0)} MB free and ${needed} MB are needed; XDG_CACHE_HOME chooses another folder`,
    )
}

/* ---- 2. binding ------------------------------------------------------------------------------- */

/**
 * What the project needs of the binding beyond upstream, as [what stands there once, what replaces it]:
 * - a lock for a static std::set that every thread writes, which crashes worker threads;
 * - a pool of threads for each session instead of one for the process, so that a graph of small kernels can have a
 *   single thread: set before the first device is made;
 * - a session's ConfigProto, from session.pb beside its graph;
 * - sessions that compute in the calling thread (RunOptions.inter_op_thread_pool = -1).
 */
const PATCHES = [
  [
    'static std::set<std::string> ATTR_NAME_SET;',
    `static std::set<std::string> ATTR_NAME_SET;
static std::mutex ATTR_NAME_MUTEX;
static const char RUN_HERE[] = "\\x18\\xff\\xff\\xff\\xff\\xff\\xff\\xff\\xff\\xff\\x01";
static const TF_Buffer RUN_OPTIONS{RUN_HERE, sizeof(RUN_HERE) - 1, nullptr};`,
  ],
  [
    'ATTR_NAME_SET.insert(attr_name_string.c_str()).first->c_str();',
    `[&] {
      std::lock_guard<std::mutex> l(ATTR_NAME_MUTEX);
      return ATTR_NAME_SET.insert(attr_name_string.c_str()).first->c_str();
    }();`,
  ],
  [
    'TFE_ContextOptions *tfe_options = TFE_NewContextOptions();',
    `setenv("TF_OVERRIDE_GLOBAL_THREADPOOL", "1", 0);
  TFE_ContextOptions *tfe_options = TFE_NewContextOptions();`,
  ],
  [
    'TF_Session *session = TF_LoadSessionFromSavedModel(',
    `std::ifstream config_file(export_dir_string + "/session.pb", std::ios::binary);
  const std::string config((std::istreambuf_iterator<char>(config_file)),
                           std::istreambuf_iterator<char>());
  TF_SetConfig(session_options, config.data(), config.size(), tf_status.status);
  ENSURE_TF_OK_RETVAL(env, tf_status, nullptr);
  TF_Session *session = TF_LoadSessionFromSavedModel(`,
  ],
  [
    'TF_SessionRun(savedmodel_entry->second.first, nullptr, inputs.data(),',
    'TF_SessionRun(savedmodel_entry->second.first, &RUN_OPTIONS, inputs.data(),',
  ],
]

function patch(source) {
  if (PATCHES.some(([upstream]) => source.split(upstream).length !== 2))
    throw new SetupError(
      'tfjs-node-gpu has another source than 4.22: review the patches in this script',
    )
  const patched = PATCHES.reduce(
    (text, [upstream, ours]) => text.replace(upstream, () => ours),
    source,
  )
  return `#include <cstdlib>\n#include <fstream>\n#include <iterator>\n#include <mutex>\n${patched}`
}

/** Libra's kernels are compiled for each of these and chosen at run time: the cache may move to another processor. */
const KERNELS =
  process.arch === 'x64'
    ? [
        { isa: 'v4', lanes: 16, flags: ['-march=x86-64-v4', '-mprefer-vector-width=512'] },
        { isa: 'v3', lanes: 8, flags: ['-march=x86-64-v3'] },
        { isa: 'v2', lanes: 4, flags: ['-march=x86-64-v2'] },
      ]
    : [{ isa: 'any', lanes: 4, flags: [] }]

/** Compiles the binding, or takes it from the cache; the name is a hash of all that goes in. */
async function compile(cache, tmp, tensorflow) {
  const sources = Object.fromEntries(
    [join(pkg, 'binding'), native].flatMap((folder) =>
      fs
        .readdirSync(folder)
        .sort()
        .map((name) => [name, fs.readFileSync(join(folder, name), 'utf8')]),
    ),
  )
  sources['tfjs_backend.cc'] = patch(sources['tfjs_backend.cc'] ?? '')
  const flags = ['-std=c++17', '-O2', '-fPIC', '-pthread', '-fno-strict-aliasing', '-w']
  flags.push(`-DNAPI_VERSION=${NAPI}`, '-DBUILDING_NODE_EXTENSION')
  flags.push('-DNODE_GYP_MODULE_NAME=tfjs_binding')
  if (process.platform === 'darwin')
    flags.push('-bundle', '-undefined', 'dynamic_lookup', '-Wl,-rpath,@loader_path/../../deps/lib')
  else
    flags.push(
      '-shared',
      '-static-libgcc',
      '-Wl,--no-as-needed',
      '-Wl,-rpath,$ORIGIN/../../deps/lib',
    )
  const inputs = JSON.stringify([sources, flags, KERNELS, tensorflow.files, platform])
  const hash = createHash('sha256').update(inputs).digest('hex').slice(0, 16)
  const built = join(cache, `binding-${hash}.node`)
  if (fs.existsSync(built) && !args.has('--force')) return built

  const compiler = [process.env.CXX, 'g++', 'clang++', 'c++'].find(
    (c) => c && (onPath(c) || fs.existsSync(c)),
  )
  if (!compiler)
    throw new SetupError(
      'a C++ compiler is missing. On Debian or Ubuntu: apt-get install g++ (macOS: xcode-select --install)',
    )
  say(`compiling the binding with ${compiler}`)
  const work = fs.mkdtempSync(join(tmp, 'binding-'))
  for (const [name, text] of Object.entries(sources)) fs.writeFileSync(join(work, name), text)
  const include = join(root, 'node_modules/node-api-headers/include')
  const libraries = ['cc', 'framework'].map((part) =>
    join(tensorflow.folder, `lib/libtensorflow_${part}.${suffix}`),
  )
  const units = ['tfjs_backend.cc', 'tfjs_binding.cc', 'ops.cc'].map((name) => join(work, name))
  const output = join(work, 'tfjs_binding.node')
  const includes = [`-I${include}`, `-I${join(tensorflow.folder, 'include')}`]
  for (const { isa, lanes, flags: own } of KERNELS) {
    const object = join(work, `kernels-${isa}.o`)
    const fast = ['-std=c++17', '-O3', '-fPIC', '-fno-math-errno', '-w', ...own]
    const names = [`-DISA=${isa}`, `-DLANES=${lanes}`]
    await run(compiler, [...fast, ...names, '-c', join(work, 'kernels.cc'), '-o', object])
    units.push(object)
  }
  await run(compiler, [...flags, ...includes, ...units, ...libraries, '-o', output])
  fs.renameSync(output, built)
  return built
}

/* ---- 3. links --------------------------------------------------------------------------------- */

/** Puts links to the libraries and the binding into the package; the stamp comes last. */
function link(wheels, built, device, forced) {
  fs.rmSync(join(pkg, 'deps'), { recursive: true, force: true })
  const stamp = { key: keyOf(device), device, forced, sources: {}, files: {} }
  for (const { folder, files } of wheels)
    for (const [name, { bytes, sha256: hash }] of Object.entries(files)) {
      if (name.startsWith('include/')) continue
      const path = join(pkg, 'deps', name)
      fs.mkdirSync(dirname(path), { recursive: true })
      fs.rmSync(path, { force: true })
      fs.symlinkSync(join(folder, name), path)
      stamp.files[join('deps', name)] = bytes
      stamp.sources[join('deps', name)] = hash
    }
  fs.mkdirSync(dirname(bindingFile), { recursive: true })
  fs.rmSync(bindingFile, { force: true }) // never write into a library that a process has mapped
  fs.copyFileSync(built, bindingFile)
  stamp.files[join('lib', `napi-v${NAPI}`, 'tfjs_binding.node')] = bytesOf(bindingFile)
  return stamp
}

/** Loads the binding in a child and asks it: a library that does not load must not get a stamp. */
async function load() {
  const program = `const b = require(process.argv[1]);
    console.log('\\n' + JSON.stringify({ tensorflow: b.TF_Version, gpu: b.isUsingGpuDevice() }))`
  const quiet = { TF_CPP_MIN_LOG_LEVEL: '2', TF_FORCE_GPU_ALLOW_GROWTH: 'true' }
  const out = await run(process.execPath, ['-e', program, bindingFile], {
    env: { ...quiet, ...process.env },
  })
  return JSON.parse(out.trim().split('\n').at(-1))
}

const describe = ({ tensorflow, gpu }) => `TensorFlow ${tensorflow}, device ${gpu ? 'gpu' : 'cpu'}`

async function check(stamp, device) {
  if (!isCurrent(stamp, device)) throw new SetupError('not set up, or out of date: npm run setup')
  for (const [file, expected] of Object.entries(stamp.sources))
    if ((await sha256(join(pkg, file))) !== expected)
      throw new SetupError(`${file} is damaged: npm run setup -- --force`)
  say(`${describe(await load())}: every library is as it was fetched`)
}

async function setUp(device, forced) {
  const cache = openCache()
  const unlock = await lock(cache)
  const tmp = join(cache, 'tmp')
  const leave = () => {
    fs.rmSync(tmp, { recursive: true, force: true })
    unlock()
  }
  for (const [signal, code] of [
    ['SIGINT', 130],
    ['SIGTERM', 143],
    ['SIGHUP', 129],
  ])
    process.once(signal, () => {
      child?.kill('SIGKILL')
      leave()
      process.exit(code)
    })
  try {
    const stamp = readJson(stampFile)
    if (isCurrent(stamp, device) && !args.has('--force')) return // the other set-up did it
    fs.rmSync(tmp, { recursive: true, force: true }) // what an interrupted set-up left
    fs.mkdirSync(tmp)
    const name = device === 'cpu' && platform === 'linux-x64' ? 'tensorflow-cpu' : 'tensorflow'
    const wanted = [`${name}==${TENSORFLOW}`, ...(device === 'gpu' ? CUDA : [])]
    const total = MEGABYTES[name] + (device === 'gpu' ? MEGABYTES.cuda : 0)
    let found = null
    const pip = async () => {
      if (found === null) {
        checkSpace(cache, total)
        found = await findPip(tmp)
      }
      return found
    }
    const progress = progressOf(total)
    const wheels = []
    for (const requirement of wanted)
      wheels.push(await wheel(requirement, cache, tmp, pip, progress))
    const built = await compile(cache, tmp, wheels[0])
    const next = link(wheels, built, device, forced)
    const loaded = await load()
    fs.writeFileSync(`${stampFile}.tmp`, JSON.stringify(next, null, 1))
    fs.renameSync(`${stampFile}.tmp`, stampFile)
    say(`${describe(loaded)}: ready`)
    if (device === 'gpu' && !loaded.gpu)
      say('TensorFlow sees no GPU here and computes on the CPU (is the NVIDIA driver running?)')
  } finally {
    leave()
  }
}

try {
  const known = ['--cpu', '--gpu', '--check', '--quiet', '--force']
  const unknown = [...args].find((argument) => !known.includes(argument))
  if (unknown) throw new SetupError(`unknown option ${unknown}; there are ${known.join(', ')}`)
  const [major = 0, minor = 0] = process.versions.node.split('.').map(Number)
  if (major < 20 || (major === 20 && minor < 11))
    throw new SetupError(`Node ${process.versions.node} is too old: 20.11 or newer is needed`)
  if (!fs.existsSync(join(pkg, 'package.json')))
    throw new SetupError('the packages are not installed: npm ci')
  const stamp = readJson(stampFile)
  const { device, forced } = chooseDevice(stamp)
  if (args.has('--check')) await check(stamp, device)
  else if (args.has('--force') || !isCurrent(stamp, device)) await setUp(device, forced)
  else if (!args.has('--quiet')) say(`${stamp.key}: up to date`)
  if (!args.has('--check')) await bundle()
} catch (error) {
  say(error instanceof SetupError ? error.message : (error.stack ?? String(error)))
  process.exitCode = 1
}
