/** Helpers of every page: labels in the reader's language, elements whose text is always text, requests. */

const words = JSON.parse(document.body.dataset.words ?? '{}')
export const say = (word) => words[word] ?? word

/** An element with attributes and children; strings become text, never markup. */
export function el(tag, attributes = {}, ...children) {
  const svg = ['svg', 'circle', 'line', 'text', 'path', 'g', 'title'].includes(tag)
  const node = svg
    ? document.createElementNS('http://www.w3.org/2000/svg', tag)
    : document.createElement(tag)
  for (const [name, value] of Object.entries(attributes)) {
    if (value === false || value === null || value === undefined) continue
    if (name.startsWith('on')) node.addEventListener(name.slice(2), value)
    else node.setAttribute(name, value === true ? '' : String(value))
  }
  node.append(...children.flat().filter((child) => child !== null && child !== undefined))
  return node
}

export function figure(value) {
  if (value === null || value === undefined || Number.isNaN(value)) return '–'
  if (Number.isInteger(value)) return value.toLocaleString('en')
  const size = Math.abs(value)
  if (size !== 0 && (size < 1e-3 || size >= 1e6)) return value.toExponential(2)
  return value.toFixed(size < 10 ? 3 : size < 100 ? 2 : 1)
}

/** Sends JSON and returns JSON; an error says what the server said. */
export async function ask(path, body, method = 'POST') {
  const reply = await fetch(path, {
    method,
    headers: body === undefined ? {} : { 'content-type': 'application/json' },
    body: body === undefined ? undefined : JSON.stringify(body),
  })
  const answer = await reply.json().catch(() => ({}))
  if (!reply.ok) throw new Error(answer.detail ?? `${reply.status} ${reply.statusText}`)
  return answer
}

/** While work goes on the button says so; what goes wrong is shown where an alert is. */
export async function during(button, label, work) {
  const alert = document.querySelector('[role=alert]')
  const before = button.textContent
  button.disabled = true
  button.textContent = label
  if (alert !== null) alert.hidden = true
  try {
    return await work()
  } catch (error) {
    if (alert === null) throw error
    alert.textContent = error.message
    alert.hidden = false
  } finally {
    button.disabled = false
    button.textContent = before
  }
}
