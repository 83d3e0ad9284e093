import { html } from 'hono/html'
import type { HtmlEscapedString } from 'hono/utils/html'
import { LANGUAGES, sayIn } from './words.ts'
import type { Language, Say, Word } from './words.ts'

/** Markup whose every text is escaped; promises resolve while it is sent. */
export type Markup = HtmlEscapedString | Promise<HtmlEscapedString>
/** What a page needs to know of who reads it. */
export type Reader = { language: Language; say: Say; url: URL; query: Record<string, string> }
export const reader = (language: Language, url: URL, query: Record<string, string>): Reader => ({
  language,
  say: sayIn(language),
  url,
  query,
})

const PAGES: readonly { path: string; word: Word }[] = [
  { path: '/', word: 'runs' },
  { path: '/evaluations', word: 'evaluations' },
  { path: '/models', word: 'models' },
  { path: '/playground/score', word: 'score' },
  { path: '/playground/judge', word: 'judge' },
  { path: '/label', word: 'label_pairs' },
]

/** A page in the frame that all share. `scripts` are files of web/assets; `words` are labels they need. */
export function page(
  { language, say, url }: Reader,
  {
    title,
    active,
    body,
    scripts = [],
    words = [],
  }: {
    title: string
    active: string
    body: Markup
    scripts?: readonly string[]
    words?: readonly Word[]
  },
): Markup {
  const other = LANGUAGES.find((each) => each !== language) ?? language
  const switched = new URLSearchParams(url.search)
  switched.set('lang', other)
  const spoken = Object.fromEntries(words.map((word) => [word, say(word)]))
  return html`<!doctype html>
    <html lang="${language === 'zh' ? 'zh-CN' : 'en'}">
      <head>
        <meta charset="utf-8" />
        <meta name="viewport" content="width=device-width, initial-scale=1" />
        <meta name="color-scheme" content="light dark" />
        <title>${title} · Libra</title>
        <link rel="icon" href="/assets/icon.svg" />
        <link rel="stylesheet" href="/assets/libra.css" />
        ${scripts.map((name) =>
          name === 'uplot.js'
            ? html`<link rel="stylesheet" href="/assets/uplot.css" />
                <script src="/assets/uplot.js" defer></script>`
            : html`<script type="module" src="/assets/${name}"></script>`,
        )}
      </head>
      <body data-words="${JSON.stringify(spoken)}">
        <a class="skip" href="#content">${say('skip')}</a>
        <header class="top">
          <a class="brand" href="/"
            ><img src="/assets/icon.svg" alt="" width="28" height="28" />Libra</a
          >
          <nav aria-label="${say('menu')}">
            ${PAGES.map(
              ({ path: to, word }) =>
                html`<a href="${to}" ${active === to ? html`aria-current="page"` : ''}
                  >${say(word)}</a
                >`,
            )}
          </nav>
          <a
            class="language"
            lang="${other === 'zh' ? 'zh-CN' : 'en'}"
            hreflang="${other}"
            href="${url.pathname}?${switched.toString()}"
            >${other === 'zh' ? '中文' : 'English'}</a
          >
        </header>
        <main id="content" tabindex="-1">${body}</main>
      </body>
    </html>`
}

/** How a moment, a time span and a number are written. */
export const moment = (at: number | null, language: Language): Markup | string =>
  at === null
    ? '–'
    : html`<time datetime="${new Date(at).toISOString()}"
        >${new Intl.DateTimeFormat(language === 'zh' ? 'zh-CN' : 'en-GB', {
          dateStyle: 'medium',
          timeStyle: 'short',
        }).format(at)}</time
      >`

export function span(from: number | null, to: number | null): string {
  if (from === null) return '–'
  const seconds = Math.max(0, Math.round(((to ?? Date.now()) - from) / 1000))
  const [h, m, s] = [Math.floor(seconds / 3600), Math.floor(seconds / 60) % 60, seconds % 60]
  return h > 0 ? `${h} h ${m} min` : m > 0 ? `${m} min ${s} s` : `${s} s`
}

/** Up to four digits that matter, and no more zeros than they need. */
export function figure(value: unknown): string {
  if (typeof value !== 'number') return show(value)
  if (Number.isInteger(value)) return value.toLocaleString('en')
  const size = Math.abs(value)
  if (size !== 0 && (size < 1e-3 || size >= 1e6)) return value.toExponential(2)
  return value.toFixed(size < 10 ? 3 : size < 100 ? 2 : 1)
}

export const show = (value: unknown): string =>
  value === null || value === undefined
    ? '–'
    : typeof value === 'string'
      ? value
      : JSON.stringify(value)

export const shortId = (id: string): string => (id.length > 16 ? `…${id.slice(-8)}` : id)
