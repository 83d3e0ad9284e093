import { existsSync } from 'node:fs'
import { readdir, readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { promisify } from 'node:util'
import { gunzip } from 'node:zlib'
import { z } from 'zod'
import { LibraError } from '../errors.ts'
import { Messages, SafeText } from '../schemas/chat.ts'
import type { PreferenceRow } from '../schemas/feedback.ts'
import { decodeUtf8, parseRows } from './rows.ts'

/** A pair as the HH-RLHF files hold it: a dialogue up to the last user turn, and two answers. */
const HumanPair = z.object({
  domain: z.enum(['helpful', 'harmless']),
  tranche: z.string(),
  messages: Messages,
  chosen: SafeText,
  rejected: SafeText,
})
const Plain = z.object({ text: z.string() })

export type HumanData = { train: PreferenceRow[]; dev: PreferenceRow[]; texts: string[] }

/**
 * Reads a data folder: `hh-rlhf/<tranche>.train.jsonl[.gz]` and `.dev.jsonl[.gz]` with preference pairs
 * (`{domain, tranche, messages, chosen, rejected}`), and `pretrain/*.jsonl[.gz]` with plain text (`{text}`), which
 * may be missing. helpful pairs become the helpfulness axis, harmless ones safety; the tranche is the source.
 * Throws `not_found` or `invalid_data` naming the file, the line and the field.
 */
export async function readHumanData(folder: string): Promise<HumanData> {
  const pairs = async (part: 'train' | 'dev'): Promise<PreferenceRow[]> => {
    const files = await list(join(folder, 'hh-rlhf'), `.${part}.jsonl`)
    const rows = await Promise.all(files.map((file) => readAll(file, HumanPair)))
    return rows.flat().map(toPreference)
  }
  const [train, dev] = [await pairs('train'), await pairs('dev')]
  for (const [part, rows] of Object.entries({ train, dev }))
    if (rows.length === 0)
      throw new LibraError('not_found', `${folder}/hh-rlhf holds no *.${part}.jsonl or .jsonl.gz`)
  const files = await list(join(folder, 'pretrain'), '.jsonl')
  const texts = await Promise.all(files.map((file) => readAll(file, Plain)))
  return { train, dev, texts: texts.flat().map(({ text }) => text) }
}

async function list(folder: string, part: string): Promise<string[]> {
  if (!existsSync(folder)) return []
  const names = (await readdir(folder)).filter((n) => n.endsWith(part) || n.endsWith(`${part}.gz`))
  return names.sort().map((name) => join(folder, name))
}

/** Every row of JSON Lines, gzip'd or not. Throws `invalid_data` naming the line and the field. */
export async function readAll<T>(file: string, schema: z.ZodType<T>): Promise<T[]> {
  const bytes = await readFile(file)
  const plain = file.endsWith('.gz') ? await promisify(gunzip)(bytes) : bytes
  return parseRows(decodeUtf8(plain, file), file, schema)
}

const toPreference = (pair: z.infer<typeof HumanPair>): PreferenceRow => ({
  axis: pair.domain === 'helpful' ? 'helpfulness' : 'safety',
  prompt: pair.messages,
  chosen: pair.chosen,
  rejected: pair.rejected,
  source: pair.tranche,
})
