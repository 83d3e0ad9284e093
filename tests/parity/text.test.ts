import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { expect, test } from 'vitest'
import { starterFolder } from '../../src/config.ts'
import type { Message } from '../../src/schemas/chat.ts'
import { encodeChat } from '../../src/text/template.ts'
import { loadTokenizer } from '../../src/text/tokenizer.ts'

// Expected ids and texts are transformers': fixtures/parity/text/make.py
const file = fileURLToPath(new URL('../../fixtures/parity/text/expected.json', import.meta.url))
const expected = JSON.parse(readFileSync(file, 'utf8')) as {
  texts: { text: string; ids: number[] }[]
  chats: { messages: Message[]; prompt: boolean; text: string; ids: number[] }[]
}
const tokenizer = await loadTokenizer(join(starterFolder, 'base'))

test('token ids of text in many scripts, and back to the text', () => {
  for (const { text, ids } of expected.texts) {
    expect(tokenizer.encode(text), JSON.stringify(text)).toEqual(ids)
    expect(tokenizer.decode(ids)).toBe(text)
  }
})

test('chats: the template’s text and its ids', () => {
  for (const { messages, prompt, ids } of expected.chats)
    expect(encodeChat(tokenizer, messages, prompt).ids).toEqual(ids)
})
