import type { Message } from '../schemas/chat.ts'

type Asked = { prompt: readonly Message[] }

/** A conversation's name: its first user turn, as a system turn may stand before many of them. */
export const conversationOf = ({ prompt }: Asked): string =>
  prompt.find(({ role }) => role === 'user')?.content ?? ''

/** The same, but for case and spaces: what two sides of a split must not share. */
export const conversationKey = (row: Asked): string =>
  conversationOf(row).normalize('NFKC').toLowerCase().replace(/\s+/gu, ' ').trim()
