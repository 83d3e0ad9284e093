import { createHash } from 'node:crypto'
import { createReadStream, existsSync } from 'node:fs'
import { mkdir, open, readFile, readdir, rename, rm, stat, writeFile } from 'node:fs/promises'
import { basename, dirname, join } from 'node:path'
import { pipeline } from 'node:stream/promises'
import { LibraError } from '../errors.ts'

const MANIFEST = 'manifest.json'

/**
 * Writes a folder all or nothing: into a temporary name beside it, hashed, synced, then renamed.
 * Throws `already_exists` when the target is there.
 */
export async function commitFolder(
  target: string,
  write: (folder: string) => Promise<void>,
): Promise<void> {
  if (existsSync(target)) throw new LibraError('already_exists', `${target} exists already`)
  const parent = dirname(target)
  await mkdir(parent, { recursive: true })
  const temporary = join(parent, `.${basename(target)}.${process.pid}.partial`)
  await rm(temporary, { recursive: true, force: true })
  await mkdir(temporary)
  try {
    await write(temporary)
    const sums = await hashFiles(temporary)
    await writeFile(join(temporary, MANIFEST), JSON.stringify(sums, null, 1))
    for (const name of [...Object.keys(sums), MANIFEST]) await sync(join(temporary, name))
    await sync(temporary)
    await rename(temporary, target)
    await sync(parent)
  } catch (error) {
    await rm(temporary, { recursive: true, force: true })
    throw error
  }
}

async function sync(path: string): Promise<void> {
  const handle = await open(path, 'r')
  try {
    await handle.sync()
  } finally {
    await handle.close()
  }
}

async function hashFiles(folder: string): Promise<Record<string, string>> {
  const sums: Record<string, string> = {}
  for (const name of (await readdir(folder)).sort()) {
    if (name === MANIFEST || !(await stat(join(folder, name))).isFile()) continue
    const hash = createHash('sha256')
    await pipeline(createReadStream(join(folder, name), { highWaterMark: 2 ** 20 }), hash)
    sums[name] = hash.digest('hex')
  }
  return sums
}

/**
 * Compares a folder with its manifest, where it has one. Gives one SHA-256 over the names and contents of its files, and
 * that of each file. Throws `damaged_checkpoint` naming the first file that differs.
 */
export async function verifyFolder(
  folder: string,
): Promise<{ hash: string; files: Record<string, string> }> {
  const path = join(folder, MANIFEST)
  const found = await hashFiles(folder)
  const expected = existsSync(path)
    ? (JSON.parse(await readFile(path, 'utf8')) as Record<string, string>)
    : {}
  for (const [name, sum] of Object.entries(expected))
    if (found[name] !== sum)
      throw new LibraError(
        'damaged_checkpoint',
        `${join(folder, name)} is ${found[name] === undefined ? 'missing' : 'not what was written'}`,
      )
  return { hash: hashOf(found), files: found }
}

/** One SHA-256 over the names and contents of a folder's files. */
export const hashFolder = async (folder: string): Promise<string> => hashOf(await hashFiles(folder))

const hashOf = (sums: Record<string, string>): string =>
  createHash('sha256').update(JSON.stringify(sums)).digest('hex')
