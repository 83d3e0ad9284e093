// The software of others that Libra is held against, from PyPI, in a virtual environment in the user's cache folder.
// Prints the environment's python. LIBRA_PEERS_PYTHON names one that has the packages already.
import { spawnSync } from 'node:child_process'
import { createHash } from 'node:crypto'
import { existsSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs'
import { homedir } from 'node:os'
import { dirname, join } from 'node:path'
import { fileURLToPath } from 'node:url'

const requirements = join(dirname(fileURLToPath(import.meta.url)), 'peers.txt')

/** The path of a python with the peers installed; about 3 GB the first time. Throws when pip fails. */
export function peersPython() {
  const given = process.env.LIBRA_PEERS_PYTHON
  if (given) return given
  const hash = createHash('sha256').update(readFileSync(requirements)).digest('hex').slice(0, 12)
  const cache = process.env.XDG_CACHE_HOME || join(homedir(), '.cache')
  const folder = join(cache, 'libra', `peers-${hash}`)
  const python = join(folder, 'bin/python')
  const stamp = join(folder, 'complete')
  if (existsSync(stamp)) return python
  rmSync(folder, { recursive: true, force: true }) // what an interruption left
  const run = (command, args) => {
    const { status } = spawnSync(command, args, { stdio: ['ignore', 2, 2] })
    if (status !== 0) throw new Error(`peers: ${command} ${args.join(' ')} failed (${status})`)
  }
  console.error(`peers: installing ${requirements} into ${folder}`)
  run('python3', ['-m', 'venv', folder])
  run(python, ['-m', 'pip', 'install', '-r', requirements])
  writeFileSync(`${stamp}.new`, '')
  renameSync(`${stamp}.new`, stamp)
  return python
}

if (process.argv[1] === fileURLToPath(import.meta.url)) console.log(peersPython())
