import assert from 'node:assert/strict'
import { test } from 'node:test'
import { keepNetfilterSockets, openNetfilter } from './netfilter-socket.ts'
import { listLinks, openRtnetlink } from './rtnetlink.ts'
import { NETLINK_ROUTE, NetlinkSocket } from './socket.ts'

test('openNetfilter() opens a socket each time, and from keepNetfilterSockets() on gives those that nobody uses', () => {
  const plain = openNetfilter()
  plain[Symbol.dispose]()
  assert.throws(() => plain[Symbol.dispose](), { code: 'EBADF' })
  keepNetfilterSockets()
  const first = openNetfilter()
  const second = openNetfilter()
  assert.notEqual(first, second)
  for (const _ of ['once', 'twice']) first[Symbol.dispose]()
  assert.equal(openNetfilter(), first)
  assert.notEqual(openNetfilter(), first)
  second[Symbol.dispose]()
  assert.equal(openNetfilter(), second)
})

test('a NetlinkSocket is whole but for a list that was given up in the middle', () => {
  using rt = openRtnetlink()
  assert.ok(listLinks(rt).length > 0)
  assert.equal(rt.isWhole, true)
  using broken = new NetlinkSocket(NETLINK_ROUTE)
  const giveUp = () => {
    throw new Error('enough')
  }
  // RTM_GETLINK, with struct ifinfomsg
  const request = { operation: 'list', type: 18, body: (w: { u32(value: number): unknown }) => [0, 0, 0, 0].forEach((value) => void w.u32(value)) }
  assert.throws(() => broken.dump(request, giveUp), /enough/)
  assert.equal(broken.isWhole, false)
})
