#!/usr/bin/env node
import { freshBundle } from '../scripts/bundle.mjs'

const bundle = await freshBundle()
if (bundle !== null) await import(bundle)
else {
  const { register } = await import('tsx/esm/api')
  register()
  await import('../src/main.ts')
}
