// Runs the bundled tests: `unit` (beside the code) or `netns` (test/netns/, needs root), two files at a time: each test has a host of its own.
// `soak` is the long form of some of test/netns/: all that they else take a part of, for hours.
import { spawnSync } from 'node:child_process'
import { readdirSync } from 'node:fs'

const [suite, ...only] = process.argv.slice(2)
/** They ask TSNET_TEST_SOAK. */
const SOAK = ['killed', 'killed-networks', 'killed-move', 'killed-agent', 'faults', 'load']
const isOf = (list) => (name) => list.some((word) => name.includes(`--${word}.test`))
const files = readdirSync('build/test')
  .filter((name) => name.endsWith('.test.cjs') && name.startsWith('test--netns--') === (suite !== 'unit'))
  .filter((name) => suite !== 'soak' || isOf(SOAK)(name))
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
  'faults',
  'load',
  'matrix',
  'matrix-sctp',
]
const { NODE_EXTRA_CA_CERTS: _, ...env } = process.env
const preload = suite === 'unit' ? ['--require', './scripts/fixed-seed.cjs'] : []
/** Without root, a user namespace whose root one is, with a network namespace of its own: what needs more is skipped. */
const entry = suite !== 'unit' && process.getuid?.() !== 0 ? ['unshare', '-Ur', '--net', '--mount', '--'] : []
const run = (list, more = {}) => {
  const [program, ...words] = [...entry, process.execPath, ...preload, '--test', '--test-concurrency=2', '--test-reporter=spec', ...list]
  const variables = { ...env, ...(suite === 'soak' && { TSNET_TEST_SOAK: '1' }), ...more }
  return spawnSync(program, words, { stdio: 'inherit', env: variables }).status ?? 1
}
let status = run(files)
const again = suite === 'unit' ? [] : files.filter(isOf(ANY_BACKEND))
if (again.length > 0) {
  console.log('\nThe same with the native backend (TSNET_TEST_BACKEND=nftables):')
  status = run(again, { TSNET_TEST_BACKEND: 'nftables' }) || status
}
process.exit(status)
