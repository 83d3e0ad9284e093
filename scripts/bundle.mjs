// The sources as a few files that start fast: without a loader, without the parts of TensorFlow.js that Libra does not
// use, and with an engine that keeps its compiled code. `npm run setup` writes them into a folder of their own;
// bin/libra.js takes them while no source has changed since, else the sources.

import { createHash } from 'node:crypto'
import {
  copyFileSync,
  existsSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  statSync,
} from 'node:fs'
import { dirname, join } from 'node:path'
import { fileURLToPath, pathToFileURL } from 'node:url'

const root = dirname(dirname(fileURLToPath(import.meta.url)))
const builds = join(root, '.build')
/** Of earlier sources: a service that runs on them may still start engines. */
const KEPT = 2

/** What decides the bundle: where it lies, and each source's size and time. */
function fingerprint() {
  const hash = createHash('sha256').update(root)
  const visit = (path) => {
    for (const entry of readdirSync(path, { withFileTypes: true }).sort((a, b) =>
      a.name < b.name ? -1 : 1,
    )) {
      const file = join(path, entry.name)
      if (entry.isDirectory()) visit(file)
      else {
        const { size, mtimeMs } = statSync(file)
        hash.update(`${file} ${size} ${mtimeMs}\n`)
      }
    }
  }
  visit(join(root, 'src'))
  for (const file of ['package-lock.json', 'scripts/bundle.mjs', 'scripts/bundled-engine.cjs']) {
    const { size, mtimeMs } = statSync(join(root, file))
    hash.update(`${file} ${size} ${mtimeMs}\n`)
  }
  return hash.digest('hex').slice(0, 16)
}

/** The entry of the bundle of these sources, or null where there is none. */
export function freshBundle() {
  const main = join(builds, fingerprint(), 'main.mjs')
  return existsSync(main) ? main : null
}

const tfjs = join(root, 'node_modules/@tensorflow/tfjs-node-gpu')
/** tfjs-node wants the union package for its layers, of which Libra uses nothing. */
const UNION = `
export * from '@tensorflow/tfjs-core'
import { version_core } from '@tensorflow/tfjs-core'
export const version = { 'tfjs-core': version_core }
export class CustomCallback {}
export const registerCallbackConstructor = () => {}
`
/** It looks for its binding by a package for installers. */
const FIND = `export const find = () => ${JSON.stringify(join(tfjs, 'lib/napi-v8/tfjs_binding.node'))}`
const STANDINS = { '@tensorflow/tfjs': UNION, '@mapbox/node-pre-gyp': FIND }

const sources = {
  name: 'sources',
  setup({ onLoad, onResolve }) {
    // a source goes on finding what lies beside it
    onLoad({ filter: /\/src\/.*\.ts$/ }, ({ path }) => ({
      contents: readFileSync(path, 'utf8')
        .replace(
          "createRequire(import.meta.url)('@tensorflow/tfjs-node-gpu')",
          "require('@tensorflow/tfjs-node-gpu')",
        )
        .replaceAll('import.meta.url', JSON.stringify(pathToFileURL(path).href))
        .replaceAll('import.meta.dirname', JSON.stringify(dirname(path))),
      loader: 'ts',
    }))
    onResolve({ filter: /^@(tensorflow\/tfjs|mapbox\/node-pre-gyp)$/ }, ({ path }) => ({
      path,
      namespace: 'standin',
    }))
    onLoad({ filter: /./, namespace: 'standin' }, ({ path }) => ({
      contents: STANDINS[path],
      resolveDir: root,
    }))
  },
}

/** Writes the bundle of these sources where there is none. */
export async function bundle() {
  const folder = join(builds, fingerprint())
  if (existsSync(folder)) return
  const part = `${folder}-${process.pid}`
  const { build } = await import('esbuild') // not when a bundle is only looked for
  const common = {
    ...{ bundle: true, platform: 'node', target: 'node20', logLevel: 'error', plugins: [sources] },
    external: ['libsql', 'tsx', 'esbuild'],
    define: {
      __dirname: JSON.stringify(join(tfjs, 'dist')),
      'process.env.LIBRA_ENGINE_ENTRY': JSON.stringify(join(folder, 'start-engine.cjs')),
    },
  }
  const banner =
    "import { createRequire as libraRequire } from 'node:module'; const require = libraRequire(import.meta.url);"
  await build({
    ...common,
    ...{ entryPoints: [join(root, 'src/main.ts')], outdir: part, format: 'esm', splitting: true },
    ...{ outExtension: { '.js': '.mjs' }, banner: { js: banner } },
  })
  await build({
    ...common,
    ...{ entryPoints: [join(root, 'src/engine/process/serve.ts')], format: 'cjs' },
    outfile: join(part, 'engine.cjs'),
  })
  copyFileSync(join(root, 'scripts/bundled-engine.cjs'), join(part, 'start-engine.cjs'))
  try {
    renameSync(part, folder)
  } catch (error) {
    rmSync(part, { recursive: true, force: true })
    if (!existsSync(folder)) throw error // else another set-up was faster
  }
  const ages = readdirSync(builds).map((name) => ({
    path: join(builds, name),
    made: statSync(join(builds, name)).mtimeMs,
  }))
  for (const { path } of ages.sort((x, y) => y.made - x.made).slice(KEPT + 1))
    rmSync(path, { recursive: true, force: true })
}
