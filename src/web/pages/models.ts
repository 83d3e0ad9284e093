import { html } from 'hono/html'
import { ROLE_NAMES } from '../../schemas/model.ts'
import type { RoleName } from '../../schemas/model.ts'
import type { LineageNode } from '../../services/lineage.ts'
import { page, shortId } from '../page.ts'
import type { Markup, Reader } from '../page.ts'

/** Roles, and the lineage of every model from its base to the last round. */
export function modelsPage(
  reader: Reader,
  roles: Partial<Record<RoleName, string>>,
  roots: readonly LineageNode[],
): Markup {
  const { say } = reader
  const playing = new Map<string, RoleName[]>()
  for (const role of ROLE_NAMES) {
    const model = roles[role]
    if (model !== undefined) playing.set(model, [...(playing.get(model) ?? []), role])
  }
  const body = html`<h1>${say('models')}</h1>
    <section>
      <h2>${say('roles')}</h2>
      <p class="lead">${say('roles_lead')}</p>
      <dl class="facts roles">
        ${ROLE_NAMES.map(
          (role) =>
            html`<div>
              <dt>${say(role)}</dt>
              <dd><code>${roles[role] ?? '–'}</code></dd>
            </div>`,
        )}
      </dl>
    </section>
    <section>
      <h2>${say('lineage')}</h2>
      <p class="lead">${say('lineage_lead')}</p>
      <div class="scroll" tabindex="0" role="region" aria-label="${say('lineage')}">
        <ul class="lineage">
          ${roots.map((root) => branch(reader, root, playing))}
        </ul>
      </div>
    </section>`
  return page(reader, { title: say('models'), active: '/models', body })
}

function branch(reader: Reader, node: LineageNode, playing: Map<string, RoleName[]>): Markup {
  const { say } = reader
  const kind = node.models[0]?.kind ?? 'checkpoint'
  const axis = node.models[0]?.axis
  return html`<li>
    <div class="node ${axis ?? kind}">
      ${node.models.length === 0 ? html`<b>${node.name}</b>` : node.models.map(({ id }) => html`<b>${id}</b>`)}
      ${node.models.flatMap(({ id }) => playing.get(id) ?? []).map((role) => html` <span class="chip role">${say(role)}</span>`)}
      ${node.run === null ? '' : html`<small><a href="/runs/${node.run.id}">${say(node.run.kind)} ${shortId(node.run.id)}</a></small>`}
    </div>
    ${
      node.children.length === 0
        ? ''
        : html`<ul>
            ${node.children.map((child) => branch(reader, child, playing))}
          </ul>`
    }
  </li>`
}
