// Starts the bundled engine with the code that V8 compiled the last time, which an engine leaves when it ends.
const { readFileSync, renameSync, writeFileSync } = require('node:fs')
const { createRequire, wrap } = require('node:module')
const { join } = require('node:path')
const { Script } = require('node:vm')

const file = join(__dirname, 'engine.cjs')
const cache = join(__dirname, 'engine.cache')
let cachedData
try {
  cachedData = readFileSync(cache)
} catch {
  // the first engine after a build
}
const script = new Script(wrap(readFileSync(file, 'utf8')), { filename: file, cachedData })
if (cachedData === undefined || script.cachedDataRejected)
  process.on('exit', () => {
    writeFileSync(`${cache}.${process.pid}`, script.createCachedData())
    renameSync(`${cache}.${process.pid}`, cache)
  })
script.runInThisContext()(exports, createRequire(file), module, file, __dirname)
