import { spawnSync } from 'node:child_process'
import { existsSync } from 'node:fs'
import { statfs } from 'node:fs/promises'
import { dirname } from 'node:path'
import { fileURLToPath } from 'node:url'
import { readConfig, starterFolder } from '../config.ts'
import { spawnEngine } from '../engine/process/spawn.ts'
import { STARTER_FOLDERS } from '../services/catalog.ts'
import { verifyFolder } from '../weights/atomic.ts'
import { tableOf } from './table.ts'

type Finding = { what: string; ok: boolean; found: string; fix?: string }

const SETUP = fileURLToPath(new URL('../../scripts/setup-native.mjs', import.meta.url))
const firstLine = (text: string): string => text.trim().split('\n')[0] ?? ''

function program(
  what: string,
  candidates: readonly string[],
  args: string[],
  fix: string,
): Finding {
  for (const command of candidates) {
    const { status, stdout, stderr } = spawnSync(command, args, { encoding: 'utf8' })
    if (status === 0) return { what, ok: true, found: firstLine(stdout || stderr) }
  }
  return { what, ok: false, found: 'missing', fix }
}

/** Says what is missing, how to get it, which device is in use and how the service is configured. */
export async function doctor(): Promise<void> {
  const config = readConfig()
  const [major = 0, minor = 0] = process.versions.node.split('.').map(Number)
  const native = spawnSync(process.execPath, [SETUP, '--check'], { encoding: 'utf8' })
  const nativeText = native.stderr.replaceAll(/^setup: /gm, '').trim()
  const findings: Finding[] = [
    {
      what: 'Node',
      ok: major > 20 || (major === 20 && minor >= 11),
      found: process.versions.node,
      fix: 'install Node 20.11, 22 or 24',
    },
    program('Python', ['python3', 'python'], ['--version'], 'apt-get install python3 python3-pip'),
    program(
      'pip',
      ['python3', 'python'],
      ['-m', 'pip', '--version'],
      'apt-get install python3-pip',
    ),
    program('C++ compiler', ['g++', 'clang++', 'c++'], ['--version'], 'apt-get install g++'),
    {
      what: 'TensorFlow',
      ok: native.status === 0,
      found: firstLine(nativeText),
      fix: 'npm run setup (add -- --cpu or --gpu to choose)',
    },
    ...(native.status === 0 ? [await device()] : []),
    await starterModels(),
    await diskSpace(config.dataDir),
  ]
  const table = tableOf(['', 'found', 'what to do'])
  for (const { what, ok, found, fix } of findings)
    table.push([`${ok ? '✓' : '✗'} ${what}`, found, ok ? '' : (fix ?? '')])
  console.log(table.toString())
  const { host, port, dataDir, modelsDir } = config
  console.log(`serves on http://${host}:${port}\ndata in ${dataDir}\nmodels from ${modelsDir}`)
  if (findings.some(({ ok }) => !ok)) process.exitCode = 1
}

/** Starts an engine as the service does and has it multiply. */
async function device(): Promise<Finding> {
  const what = 'device'
  try {
    const engine = await spawnEngine()
    try {
      const { device, tensorflow } = await engine.status()
      const { gflops, bandwidth } = await engine.peak()
      const speed = `${gflops.toFixed(0)} GFLOP/s (2048² product), ${bandwidth.toFixed(0)} GB/s`
      return { what, ok: true, found: `${device}, TensorFlow ${tensorflow}, ${speed}` }
    } finally {
      await engine.close()
    }
  } catch (error) {
    return { what, ok: false, found: (error as Error).message, fix: 'npm run setup' }
  }
}

async function starterModels(): Promise<Finding> {
  const what = 'starter models'
  const fix = 'git checkout fixtures/starter'
  try {
    for (const name of STARTER_FOLDERS) {
      const folder = `${starterFolder}/${name}`
      if (!existsSync(folder)) return { what, ok: false, found: `${name} is missing`, fix }
      await verifyFolder(folder)
    }
    return { what, ok: true, found: 'whole' }
  } catch (error) {
    return { what, ok: false, found: (error as Error).message, fix }
  }
}

const WANTED = 1e9

async function diskSpace(folder: string): Promise<Finding> {
  const { bavail, bsize } = await statfs(existsSync(folder) ? folder : dirname(folder))
  const free = bavail * bsize
  return {
    what: 'disk',
    ok: free > WANTED,
    found: `${(free / 1e9).toFixed(1)} GB free`,
    fix: 'free some space, or set LIBRA_DATA_DIR',
  }
}
