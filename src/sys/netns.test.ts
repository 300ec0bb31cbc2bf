import assert from 'node:assert/strict'
import { execFileSync, spawn } from 'node:child_process'
import { readFileSync, readlinkSync } from 'node:fs'
import { type TestContext, test } from 'node:test'
import { CNI_CODE, TsnetError } from '../error.ts'
import { openNetns, openOwnNetns, within } from './netns.ts'
import { ensureSysctl, readSysctl } from './sysctl.ts'

const own = () => readlinkSync('/proc/self/ns/net')
const isRoot = process.getuid?.() === 0
const root = { skip: isRoot ? false : 'needs root to make a network namespace' }

/** A process in a network namespace of its own, ended with the test. */
async function sleeper(t: TestContext): Promise<string> {
  const child = spawn('unshare', ['-n', 'sh', '-c', 'echo ready; exec sleep 60'], { stdio: ['ignore', 'pipe', 'inherit'] })
  t.after(() => child.kill('SIGKILL'))
  await new Promise((resolve) => child.stdout.once('data', resolve))
  return `/proc/${child.pid}/ns/net`
}

const isInvalid = (error: unknown) => error instanceof TsnetError && error.cniCode === CNI_CODE.invalidNetns

test('openNetns() refuses what is no network namespace', () => {
  for (const path of ['/nonexistent', '/', '/etc/passwd', '/proc/self/ns/mnt', '/dev/null', '']) assert.throws(() => openNetns(path), isInvalid, path)
})

test('within() runs in the other namespace and comes back', root, async (t) => {
  const path = await sleeper(t)
  using netns = openNetns(path)
  const before = own()
  assert.equal(within(netns, own), readlinkSync(path))
  assert.equal(own(), before)
})

test('within() comes back when the function throws', root, async (t) => {
  using netns = openNetns(await sleeper(t))
  const before = own()
  assert.throws(
    () =>
      within(netns, () => {
        throw new Error('inside')
      }),
    /inside/,
  )
  assert.equal(own(), before)
})

test('within() reads and writes the parameters of that namespace', root, async (t) => {
  using netns = openNetns(await sleeper(t))
  const host = readSysctl('net/ipv4/ip_forward')
  assert.equal(
    within(netns, () => ensureSysctl('net/ipv4/ip_forward', '1')),
    '0',
  )
  assert.equal(
    within(netns, () => readSysctl('net/ipv4/ip_forward')),
    '1',
  )
  assert.equal(readSysctl('net/ipv4/ip_forward'), host)
})

test('within() takes its children along', root, async (t) => {
  const path = await sleeper(t)
  using netns = openNetns(path)
  const inside = within(netns, () => execFileSync('readlink', ['/proc/self/ns/net'], { encoding: 'utf8' }).trim())
  assert.equal(inside, readlinkSync(path))
})

test('openOwnNetns() is the namespace that we are in', () => {
  using netns = openOwnNetns()
  assert.equal(`net:[${netns.inode}]`, own())
})

test('readSysctl() says when the kernel has no such key', () => {
  assert.equal(readSysctl('net/ipv4/no_such_key'), undefined)
  assert.equal(readSysctl('net/ipv4/ip_forward'), readFileSync('/proc/sys/net/ipv4/ip_forward', 'utf8').trim())
})

// Types: a function that returns a promise would run on in the wrong namespace.
// @ts-expect-error
void (() => within({} as never, async () => 1))
