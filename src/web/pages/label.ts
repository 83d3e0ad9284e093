import { html } from 'hono/html'
import { AXES, STRENGTHS } from '../../schemas/feedback.ts'
import { page } from '../page.ts'
import type { Markup, Reader } from '../page.ts'

/** Pairs for a person to label by keyboard, blind to who wrote them and to what others said. */
export function labelPage(reader: Reader): Markup {
  const { say } = reader
  const choices = (side: 'a' | 'b', from: number, levels: readonly (typeof STRENGTHS)[number][]) =>
    levels.map(
      (strength, i) =>
        html`<button type="button" data-side="${side}" data-strength="${strength}">
          <kbd>${from + i}</kbd> ${say(side === 'a' ? 'prefers_a' : 'prefers_b')}: ${say(strength)}
        </button>`,
    )
  const body = html`<h1>${say('label_pairs')}</h1>
    <p class="lead">${say('label_lead')}</p>
    <form id="label" class="playground">
      <div class="row">
        <label>${say('annotator')}<input name="annotator" required maxlength="200" /></label>
        <label
          >${say('axis')}<select name="axis">
            ${AXES.map((axis) => html`<option value="${axis}">${say(axis)}</option>`)}
          </select></label
        >
        <button class="main">${say('begin')}</button>
      </div>
    </form>
    <p class="problem" role="alert" hidden></p>
    <p id="said" role="status"></p>
    <section id="pair" hidden>
      <h2 id="prompt" tabindex="-1"></h2>
      <div class="columns">
        <div>
          <b>${say('answer_a')}</b>
          <p id="a"></p>
        </div>
        <div>
          <b>${say('answer_b')}</b>
          <p id="b"></p>
        </div>
      </div>
      <div class="row" id="unsafe" hidden>
        ${(['a', 'b'] as const).map(
          (side) =>
            html`<label
              ><input type="checkbox" name="${side}" />
              <kbd>${side}</kbd> ${say(side === 'a' ? 'a_unsafe' : 'b_unsafe')}</label
            >`,
        )}
      </div>
      <div class="row" id="choices">
        ${choices('a', 1, STRENGTHS)}${choices('b', 5, STRENGTHS.toReversed())}
        <button type="button" id="skip"><kbd>0</kbd> ${say('skip_pair')}</button>
      </div>
    </section>`
  return page(reader, {
    ...{ title: say('label_pairs'), active: '/label', body },
    scripts: ['label.js'],
    words: ['working', 'no_more_pairs', 'labelled_so_far', 'waiting_pairs'],
  })
}
