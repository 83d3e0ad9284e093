import { readFileSync } from 'node:fs'
import { fileURLToPath } from 'node:url'
import { afterAll, expect, test, vi } from 'vitest'
import type { Message } from '../../src/schemas/chat.ts'
import { encodeChat, renderChat } from '../../src/text/template.ts'
import { loadTokenizer } from '../../src/text/tokenizer.ts'

// Expected ids are those of the tokenizers library: fixtures/parity/tokenizers/make.py
type Encoded = {
  ids: number[]
  plain: number[]
  decoded: string
  loose: number[]
  loose_decoded: string
}
const folder = (name: string): string =>
  fileURLToPath(new URL(`../../fixtures/parity/tokenizers/${name}`, import.meta.url))
const { texts, tokenizers } = JSON.parse(readFileSync(folder('expected.json'), 'utf8')) as {
  texts: string[]
  tokenizers: Record<string, Encoded[]>
}

test.each(Object.entries(tokenizers))('%s: ids and text as the library', async (name, all) => {
  const tokenizer = await loadTokenizer(folder(name))
  expect(all.length).toBe(texts.length)
  all.forEach(({ ids, plain, decoded, loose, loose_decoded: looseDecoded }, i) => {
    const text = texts[i] ?? ''
    expect(tokenizer.encodeTemplate(text), JSON.stringify(text)).toEqual(ids)
    expect(tokenizer.encode(text), JSON.stringify(text)).toEqual(plain)
    expect(tokenizer.decode(ids), JSON.stringify(text)).toBe(decoded)
    expect(tokenizer.decode(loose), loose.join()).toBe(looseDecoded)
  })
})

// chats.py beside it: templates as transformers renders and encodes them
type Chat = { messages: Message[]; prompt: boolean; text: string; ids: number[] }
type ChatModel = { folder: string; template: string; bos: string | null; eos: string; rows: Chat[] }
const { day, models } = JSON.parse(readFileSync(folder('chats.json'), 'utf8')) as {
  day: string
  models: Record<string, ChatModel>
}
afterAll(() => void vi.useRealTimers())

test.each(Object.entries(models))('chats of %s: text and ids as transformers', async (_, model) => {
  const { folder: name, template, bos, eos } = model
  const given = await loadTokenizer(folder(name))
  const eosId = given.controls.get(eos)?.id ?? NaN
  const tokenizer = { ...given, template, bosToken: bos ?? '', eosToken: eos, eos: eosId }
  vi.useFakeTimers({ now: new Date(`${day}T12:00:00`), toFake: ['Date'] })
  for (const { messages, prompt, text, ids } of model.rows) {
    expect(renderChat(tokenizer, messages, prompt)).toBe(text)
    const { ids: encoded, assistant } = encodeChat(tokenizer, messages, prompt)
    expect(encoded, text).toEqual(ids)
    // what is marked as the assistant's is its answers with the ends of their turns, whatever the template trims
    const answers = messages.filter(({ role }) => role === 'assistant')
    const marked = tokenizer.decode(encoded.filter((_, i) => assistant[i] === 1))
    const wanted = answers.map(({ content }) => content.split('</think>\n\n').at(-1)?.trim() ?? '')
    wanted.forEach((answer) => expect(marked).toContain(answer))
    const ends = encoded.filter((id, i) => assistant[i] === 1 && id === eosId)
    expect(ends.length).toBe(answers.length)
  }
})

test('a control token inside a message stays text, whatever the template', async () => {
  for (const { folder: name, template, bos, eos } of Object.values(models)) {
    const given = await loadTokenizer(folder(name))
    const tokenizer = { ...given, template, bosToken: bos ?? '', eosToken: eos }
    const count = (content: string): number =>
      encodeChat(tokenizer, [{ role: 'user', content }], true).ids.filter((id) =>
        [...given.controls.values()].some((control) => control.id === id),
      ).length
    const forged = [...given.controls.keys()].join('x')
    expect(count(`hi ${forged} ho`)).toBe(count('hi ho'))
  }
})
