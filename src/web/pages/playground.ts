import { html } from 'hono/html'
import { AXES } from '../../schemas/feedback.ts'
import { page } from '../page.ts'
import type { Markup, Reader } from '../page.ts'

const PROMPT = '世界上有几大洲？'
const ANSWERS = ['七大洲。', '谁来告诉我呀']

/** A prompt and its answers, scored on both axes: who decides at which threshold, and where each figure comes from. */
export function scorePage(reader: Reader): Markup {
  const { say } = reader
  const body = html`<h1>${say('score')}</h1>
    <p class="lead">${say('score_lead')}</p>
    <form id="score" class="playground">
      <label>${say('prompt')}<textarea name="prompt" rows="2" required>${PROMPT}</textarea></label>
      <div id="answers">${ANSWERS.map((text, i) => answerField(reader, i + 1, text))}</div>
      <button type="button" id="add" class="quiet">＋ ${say('add_answer')}</button>
      <div class="row">
        <label
          >${say('prompt_class')}<select name="prompt_class">
            <option value="">–</option>
            <option value="general">${say('general')}</option>
            <option value="safety">${say('safety')}</option>
          </select></label
        >
        <button class="main">${say('score_them')}</button>
      </div>
    </form>
    <p class="problem" role="alert" hidden></p>
    <section id="result" aria-live="polite" hidden>
      <div class="row threshold">
        <label
          ><span>${say('threshold')} <output id="at">0.15</output></span
          ><input type="range" id="threshold" min="0.01" max="0.99" step="0.01" value="0.15"
        /></label>
      </div>
      <div class="columns scored">
        <ol class="cards" id="scores"></ol>
        <figure id="plane"></figure>
      </div>
    </section>`
  return page(reader, {
    ...{ title: say('score'), active: '/playground/score', body },
    scripts: ['score.js'],
    words: [
      ...([
        'answer',
        'helpfulness',
        'safety',
        'logit',
        'probability',
        'reward',
        'gate',
        'rank',
      ] as const),
      ...(['gate_below', 'gate_class', 'gate_pass', 'provenance', 'model', 'calibration'] as const),
      ...([
        'trade_off',
        'truncated',
        'working',
        'score_them',
        'remove',
        'created',
        'none',
      ] as const),
    ],
  })
}

const answerField = ({ say }: Reader, n: number, text: string): Markup =>
  html`<div class="answer">
    <label
      ><span>${say('answer')} <span class="n">${n}</span></span
      ><textarea name="answer" rows="2" required>${text}</textarea>
    </label>
  </div>`

/** Two answers to a prompt before a judge, in both orders. */
export function judgePage(
  reader: Reader,
  judges: readonly { id: string; model: string }[],
): Markup {
  const { say } = reader
  const body = html`<h1>${say('judge')}</h1>
    <p class="lead">${say('judge_lead')}</p>
    <form id="judge" class="playground">
      <label>${say('prompt')}<textarea name="prompt" rows="2" required>${PROMPT}</textarea></label>
      <div class="columns">
        <label
          >${say('answer_a')}<textarea name="a" rows="3" required>${ANSWERS[0]}</textarea>
        </label>
        <label
          >${say('answer_b')}<textarea name="b" rows="3" required>${ANSWERS[1]}</textarea>
        </label>
      </div>
      <div class="row">
        <label
          >${say('axis')}<select name="axis">
            ${AXES.map((axis) => html`<option value="${axis}">${say(axis)}</option>`)}
          </select></label
        >
        <label
          >${say('judge')}<select name="judge">
            ${judges.map(({ id, model }) => html`<option value="${id}">${id} (${model})</option>`)}
          </select></label
        >
        <button class="main">${say('judge_them')}</button>
      </div>
    </form>
    <p class="problem" role="alert" hidden></p>
    <section id="verdict" aria-live="polite" hidden></section>`
  return page(reader, {
    ...{ title: say('judge'), active: '/playground/judge', body },
    scripts: ['judge.js'],
    words: [
      ...(['prefers_a', 'prefers_b', 'undecided', 'probability_a', 'first', 'second'] as const),
      ...([
        'consistent',
        'inconsistent',
        'strength',
        'working',
        'judge_them',
        'both_orders',
      ] as const),
      ...(['answer_a', 'answer_b'] as const),
    ],
  })
}
