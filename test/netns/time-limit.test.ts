/** A call that takes longer than its time limit takes back what it did and answers code 11, whatever it waits for. */
import assert from 'node:assert/strict'
import { once } from 'node:events'
import { startAgent } from './agent-process.ts'
import { type CniCall, type CniDocument, DUAL_STACK, type Host, hostTest, TSNET } from './host.ts'
import { assertNothingLeft, assertRefused } from './state.ts'

const LIMIT_MS = 500
const env = { TSNET_TIMEOUT: String(LIMIT_MS / 1000) }
const TRY_AGAIN = 11
/** Machines that run tests may be slow; a wait without limit is longer. */
const SLACK_MS = 8000

const IPTABLES = { ...DUAL_STACK, backend: 'iptables' }
const runtimeConfig = { portMappings: [{ hostPort: 8080, containerPort: 80, protocol: 'tcp' }] }

/** Another process that has the lock until it is told. */
async function holdLock(host: Host, path: string): Promise<() => Promise<unknown>> {
  const holder = host.start(['flock', path, 'sh', '-c', 'echo held; read _'])
  await once(holder.stdout ?? holder, 'data')
  return () => {
    const ended = once(holder, 'exit')
    holder.stdin?.end('\n')
    return ended
  }
}

/** Runs the system's iptables-restore through a script that never ends, once after each `touch /run/hang`. */
function letIptablesHang(host: Host): void {
  host.sh(`
    cp /usr/sbin/xtables-nft-multi /run/xtables-nft-multi
    printf '#!/bin/bash\n[[ $0 = *restore ]] && rm /run/hang 2>/dev/null && exec sleep 100\nexec -a "$0" /run/xtables-nft-multi "$@"\n' > /run/hanging
    chmod 755 /run/hanging /run/xtables-nft-multi
    mount --bind /run/hanging /usr/sbin/xtables-nft-multi`)
}

/** Asserts that the call is refused soon after its time limit, and that nothing is different. */
function assertGivenUp(host: Host, command: string, call: CniCall): CniDocument {
  const begin = Date.now()
  const error = assertRefused(host, command, { ...call, env }, TRY_AGAIN)
  const took = Date.now() - begin
  assert.ok(took > LIMIT_MS && took < LIMIT_MS + SLACK_MS, `it took ${took} ms`)
  return error
}

hostTest('an ADD waits for a lock no longer than TSNET_TIMEOUT says, whichever lock', async (host) => {
  const call = { netns: host.container('c1'), conf: DUAL_STACK, runtimeConfig }
  host.mustCni('ADD', call)
  host.mustCni('DEL', call)
  for (const lock of ['networks/net/lock', 'lock', 'ports/lock']) {
    const release = await holdLock(host, `/run/tsnet/${lock}`)
    assertGivenUp(host, 'ADD', call)
    await release()
  }
  host.mustCni('ADD', { ...call, env })
  const release = await holdLock(host, '/run/tsnet/networks/net/lock')
  for (const command of ['DEL', 'GC']) assertGivenUp(host, command, { ...call, conf: { ...DUAL_STACK, 'cni.dev/valid-attachments': [] } })
  const { status, stderr } = host.run([TSNET, 'port', 'add', 'c1', '-p', '81'], { env })
  assert.equal(status, 1)
  assert.match(stderr, /another process has held it for [45]\d\d ms/)
  await release()
  host.mustCni('DEL', { ...call, env })
  assertNothingLeft(host)
})

hostTest('an ADD stops iptables-restore when its time is over, and takes back what it did', (host) => {
  letIptablesHang(host)
  const call = { netns: host.container('c1'), conf: IPTABLES, runtimeConfig }
  const standing = { id: 'standing', netns: host.container('standing'), conf: IPTABLES }
  host.mustCni('ADD', standing)
  host.mustCni('ADD', call)
  host.mustCni('DEL', call)
  host.exec(['touch', '/run/hang'])
  assert.match(`${assertGivenUp(host, 'ADD', call).msg}`, /ip6?tables-restore" ran for more than \d+ ms/)
  assert.equal(host.run(['test', '-e', '/run/hang']).status, 1)
  host.mustCni('DEL', standing)
  assertNothingLeft(host)
})

hostTest('a DEL whose iptables-restore hangs goes on without it, says so, and is completed by the next one', (host) => {
  letIptablesHang(host)
  const call = { netns: host.container('c1'), conf: IPTABLES, runtimeConfig }
  host.mustCni('ADD', call)
  host.exec(['touch', '/run/hang'])
  const { json } = host.cni('DEL', { ...call, env })
  assert.equal(json.code, TRY_AGAIN, `${json.msg}`)
  assert.equal(host.run(['ip', '-n', 'c1', 'link', 'show', 'eth0']).status, 1, 'it did not go on')
  host.mustCni('DEL', call)
  assertNothingLeft(host)
})

hostTest('a GC whose time is over leaves the rest to the next one', (host) => {
  letIptablesHang(host)
  const calls = ['a', 'b'].map((id) => ({ id, netns: host.container(id), conf: IPTABLES }))
  for (const [i, call] of calls.entries())
    host.mustCni('ADD', { ...call, runtimeConfig: { portMappings: [{ hostPort: 8000 + i, containerPort: 80 }] } })
  const conf = { ...IPTABLES, 'cni.dev/valid-attachments': [] }
  host.exec(['touch', '/run/hang'])
  assert.equal(host.cni('GC', { conf, env }).json.code, TRY_AGAIN)
  const there = calls.map(({ id }) => host.run(['ip', '-n', id, 'link', 'show', 'eth0']).status === 0)
  assert.deepEqual(there, [false, true])
  host.mustCni('GC', { conf })
  assertNothingLeft(host)
})

hostTest('a TSNET_TIMEOUT that is none is refused, in one shot and by an agent, whose own does not count', async (host) => {
  const call = { netns: host.container('c1'), conf: DUAL_STACK }
  const bad = { ...call, env: { TSNET_TIMEOUT: '1m' } }
  assertRefused(host, 'ADD', bad, 4)
  const agent = await startAgent(host, { env: { TSNET_TIMEOUT: '0.001' } })
  assertRefused(host, 'ADD', bad, 4)
  host.mustCni('ADD', call)
  host.mustCni('DEL', call)
  assert.equal(await agent.stop(), 0)
  assertNothingLeft(host)
})
