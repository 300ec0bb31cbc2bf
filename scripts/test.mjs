// Runs the bundled tests: `unit` (beside the code) or `netns` (test/netns/, needs root), one file after the other.
import { spawnSync } from 'node:child_process'
import { readdirSync } from 'node:fs'

const [suite, ...only] = process.argv.slice(2)
const files = readdirSync('build/test')
  .filter((name) => name.endsWith('.test.cjs') && name.startsWith('test--netns--') === (suite === 'netns'))
  .filter((name) => only.length === 0 || only.some((word) => name.includes(word)))
  .map((name) => `build/test/${name}`)
if (files.length === 0) {
  console.error(`No ${suite} test matches ${only.join(' ')}`)
  process.exit(1)
}
const { NODE_EXTRA_CA_CERTS: _, ...env } = process.env
const preload = suite === 'unit' ? ['--require', './scripts/fixed-seed.cjs'] : []
const run = spawnSync(process.execPath, [...preload, '--test', '--test-reporter=spec', ...files], { stdio: 'inherit', env })
process.exit(run.status ?? 1)
