import { readFile, writeFile } from 'node:fs/promises'
import { hostname } from 'node:os'
import { join } from 'node:path'
import lockfile from 'proper-lockfile'
import { LibraError } from '../errors.ts'

/** A lock that nobody renews is free after this long; its owner renews it every half of it. */
const STALE_MS = 10_000
const WAIT_MS = 250

/** Whether the process that wrote its name into the lock is gone. Of another machine nobody knows. */
async function ownerIsGone(file: string): Promise<boolean> {
  const [host, pid] = (await readFile(file, 'utf8')).split(' ')
  if (host !== hostname() || !Number.isInteger(Number(pid))) return false
  try {
    process.kill(Number(pid), 0)
    return false
  } catch (error) {
    return (error as NodeJS.ErrnoException).code === 'ESRCH'
  }
}

/**
 * Takes a data folder for this process; gives what releases it. Where the owner was killed it waits until the lock is
 * stale, at most ten seconds. Throws `data_folder_locked` when another process has it.
 */
export async function lockFolder(folder: string): Promise<() => Promise<void>> {
  const file = join(folder, 'libra.lock')
  await writeFile(file, '', { flag: 'a' })
  const lock = (retries: number): Promise<() => Promise<void>> =>
    lockfile.lock(file, {
      stale: STALE_MS,
      retries: { retries, factor: 1, minTimeout: WAIT_MS, maxTimeout: WAIT_MS },
    })
  const release = await lock(0)
    .catch(async (cause: unknown) => {
      if (!(await ownerIsGone(file))) throw cause
      return lock((2 * STALE_MS) / WAIT_MS)
    })
    .catch((cause: unknown) => {
      throw new LibraError(
        'data_folder_locked',
        `${folder} is in use by another Libra process: stop it, or set LIBRA_DATA_DIR to another folder`,
        { cause },
      )
    })
  await writeFile(file, `${hostname()} ${process.pid}`)
  return release
}
