import assert from 'node:assert/strict'
import { test } from 'node:test'
import { missingCapabilities } from './capability.ts'
import { identifyNetns, type NetnsIdentity, vanishedNetns } from './netns-identity.ts'

const OWN = `/proc/${process.pid}/ns/net`
const own = () => identifyNetns(OWN) ?? assert.fail('it is not found')
const isGone = (change: Partial<NetnsIdentity>) => vanishedNetns()({ ...own(), ...change })

test('identifyNetns() knows a namespace by any path, and none where there is none or where the path means another for each who looks', () => {
  const { path, since, ...identity } = own()
  const { path: other, since: _, ...same } = identifyNetns(`/proc/${process.pid}/../${process.pid}/ns/net`) ?? assert.fail()
  assert.deepEqual(same, identity)
  assert.notEqual(other, path)
  assert.match(since, /^\d+$/)
  for (const none of [
    '/proc/self/ns/net',
    '/proc/thread-self/ns/net',
    '/proc/x/../self/ns/net',
    'ns/net',
    '',
    '/none',
    '/proc/uptime',
    '/proc/self/ns/uts',
  ]) {
    assert.equal(identifyNetns(none), undefined, none)
  }
})

test('vanishedNetns() is true only of what certainly no path and no process leads to', () => {
  const privileged = missingCapabilities(['CAP_SYS_PTRACE']).length === 0
  assert.equal(isGone({}), false)
  assert.equal(isGone({ path: '/none' }), false, 'a process is in it')
  assert.equal(isGone({ path: '/none', inode: 1 }), privileged)
  assert.equal(isGone({ path: '/proc/uptime', inode: 1 }), privileged)
  assert.equal(isGone({ path: '/none', inode: 1, view: 'of another' }), false)
  assert.equal(isGone({ view: 'of another', bootId: 'another' }), true)
  assert.equal(isGone({ cookie: '0', since: '0' }), own().cookie !== undefined, 'its number was given to another one')
})
