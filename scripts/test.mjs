// Runs the bundled tests: `unit` (beside the code) or `netns` (test/netns/, needs root), two files at a time: each test has a host of its own.
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
/** What is true of a container's network whoever writes the rules: these run with the native backend too. */
const ANY_BACKEND = [
  'connectivity',
  'connection-tracking',
  'frames',
  'killed',
  'parallel',
  'addresses',
  'links',
  'runtimes',
  'policy',
  'networks',
  'killed-networks',
  'spoofing',
  'hardening-switches',
  'matrix',
  'matrix-sctp',
]
const { NODE_EXTRA_CA_CERTS: _, ...env } = process.env
const preload = suite === 'unit' ? ['--require', './scripts/fixed-seed.cjs'] : []
/** Without root, a user namespace whose root one is, with a network namespace of its own: what needs more is skipped. */
const entry = suite === 'netns' && process.getuid?.() !== 0 ? ['unshare', '-Ur', '--net', '--mount', '--'] : []
const run = (list, more = {}) => {
  const [program, ...words] = [...entry, process.execPath, ...preload, '--test', '--test-concurrency=2', '--test-reporter=spec', ...list]
  return spawnSync(program, words, { stdio: 'inherit', env: { ...env, ...more } }).status ?? 1
}
let status = run(files)
const again = suite === 'netns' ? files.filter((file) => ANY_BACKEND.some((word) => file.includes(`--${word}.test`))) : []
if (again.length > 0) {
  console.log('\nThe same with the native backend (TSNET_TEST_BACKEND=nftables):')
  status = run(again, { TSNET_TEST_BACKEND: 'nftables' }) || status
}
process.exit(status)
