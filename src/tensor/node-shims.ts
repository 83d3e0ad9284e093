import { createRequire } from 'node:module'

/**
 * tfjs-node 4.22 calls util predicates that Node 23 removed. They must be back before it loads, so the
 * backend imports this file first.
 */
const util = createRequire(import.meta.url)('node:util') as Record<string, unknown>

const removed: Record<string, (value: unknown) => boolean> = {
  isArray: Array.isArray,
  isNullOrUndefined: (value) => value === null || value === undefined,
  isString: (value) => typeof value === 'string',
}
for (const [name, predicate] of Object.entries(removed)) util[name] ??= predicate
