import { execFileSync } from 'node:child_process'
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { afterAll, expect, test } from 'vitest'
import { peersPython } from '../../scripts/peers.mjs'
import { starterFolder } from '../../src/config.ts'
import type { PreferenceRow } from '../../src/schemas/feedback.ts'
import { EXPORT_FORMATS } from '../../src/schemas/preferences.ts'
import { exportPairs } from '../../src/services/export.ts'
import { renderChat } from '../../src/text/template.ts'
import { loadTokenizer } from '../../src/text/tokenizer.ts'

/** Exports of preference pairs before `datasets`, and before what TRL's trainers do to a row. */
const folder = mkdtempSync(join(tmpdir(), 'libra-preferences-'))
afterAll(() => rmSync(folder, { recursive: true }))
const python = peersPython()
const script = fileURLToPath(new URL('./preferences.py', import.meta.url))
const base = join(starterFolder, 'base')

const prompt = [{ role: 'user' as const, content: '世界上有几大洲？' }]
const longer = [
  { role: 'user' as const, content: 'Hi' },
  { role: 'assistant' as const, content: 'Hello.' },
  { role: 'user' as const, content: 'Sky?' },
]
const pairs: PreferenceRow[] = [
  { axis: 'helpfulness', prompt, chosen: '七大洲。', rejected: '谁来告诉我呀', probability: 0.9 },
  { axis: 'helpfulness', prompt: longer, chosen: 'Blue.', rejected: 'Green.' },
]
const theirs = (format: (typeof EXPORT_FORMATS)[number]) => {
  const file = join(folder, `${format}.jsonl`)
  writeFileSync(
    file,
    exportPairs(pairs, format)
      .rows.map((row) => JSON.stringify(row))
      .join('\n'),
  )
  const said = execFileSync(python, [script, format, file, base], { encoding: 'utf8' })
  return JSON.parse(said.trim().split('\n').at(-1) ?? '') as {
    columns: string[]
    rows: number
    conversational?: boolean
    text?: { prompt: string; chosen: string; rejected: string }
  }
}

test.each(EXPORT_FORMATS)(
  'datasets and TRL read what leaves as %s',
  async (format) => {
    const found = theirs(format)
    expect(found.rows).toBe(pairs.length)
    if (format === 'trl' || format === 'ultrafeedback') {
      const tokenizer = await loadTokenizer(base)
      const text = renderChat(tokenizer, prompt, true)
      const whole = renderChat(
        tokenizer,
        [...prompt, { role: 'assistant', content: '七大洲。' }],
        false,
      )
      expect(found).toMatchObject({ conversational: true, text: { prompt: text } })
      expect(text + (found.text?.chosen ?? '')).toBe(whole)
    }
    if (format === 'trl_text' || format === 'hh')
      expect(found).toMatchObject({
        ...{ conversational: false },
        text: {
          prompt: '\n\nHuman: 世界上有几大洲？\n\nAssistant:',
          ...{ chosen: ' 七大洲。', rejected: ' 谁来告诉我呀' },
        },
      })
  },
  120_000,
)
