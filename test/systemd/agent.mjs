/** tsnet-agent.socket and tsnet-agent.service. */
import { existsSync, readFileSync, readlinkSync, rmSync, statSync, symlinkSync, writeFileSync } from 'node:fs'
import { assert, assertIncludes, check, eventually, killHard, run } from '../runtimes/check.mjs'
import { assertUnit, BIN, becomes, cni, container, dropIn, journal, show } from './service.mjs'

const SERVICE = 'tsnet-agent.service'
const SOCKET_UNIT = 'tsnet-agent.socket'
const SOCKET = '/run/tsnet/tsnet.sock'
const NETWORK = { cniVersion: '1.1.0', name: 'net', type: 'tsnet', backend: 'iptables', ipam: { ranges: [[{ subnet: '10.50.0.0/24' }]] } }
const PORT = { portMappings: [{ hostPort: 8080, containerPort: 80, protocol: 'tcp' }] }
const RESTORE = '/usr/sbin/iptables-restore'
/** Another folder: the program goes by its name. */
const REAL_RESTORE = '/run/iptables-restore'
const STEPS = '/run/steps'

/** An iptables that takes its time, and writes down when it begins and ends. */
const SLOW_RESTORE = `#!/bin/sh
echo begin >>${STEPS}
sleep 1
${REAL_RESTORE} "$@"
status=$?
echo end >>${STEPS}
exit $status
`

export async function agent() {
  await check('its socket is there after the boot, for root alone, and costs no process', () => {
    assertUnit(SOCKET_UNIT, { ActiveState: 'active', SubState: 'listening' })
    assertUnit(SERVICE, { ActiveState: 'inactive' })
    assert(mode(SOCKET) === '600' && mode('/run/tsnet') === '700', `${mode(SOCKET)} in ${mode('/run/tsnet')}`)
  })

  await check('the first ADD starts it, and it answers this one and the DEL', async () => {
    const call = container('first', { conf: NETWORK })
    const { ips } = await cni('ADD', call)
    assert(ips[0].address === '10.50.0.2/24', ips[0].address)
    await cni('DEL', call)
    await becomes(SERVICE, { ActiveState: 'active', SubState: 'running' })
    const { pid, requests, declined } = status()
    assert(pid === mainPid(), `${pid} answers, systemd knows ${mainPid()}`)
    assert(requests.ADD === 1 && requests.DEL === 1 && declined === 0, JSON.stringify({ requests, declined }))
    assertIncludes(journal(SERVICE), '"event":"serving"', 'The journal')
  })

  await check('killed, it comes back by itself, and a call meanwhile waits for it', async () => {
    const call = container('killed', { conf: NETWORK })
    const before = mainPid()
    killHard(before)
    await cni('ADD', call)
    await cni('DEL', call)
    await becomes(SERVICE, { ActiveState: 'active', NRestarts: '1' })
    const { pid, requests } = status()
    assert(pid !== before && requests.ADD === 1 && requests.DEL === 1, JSON.stringify({ pid, before, requests }))
  })

  await check('stopped in the middle of an ADD, it ends when that is done', async () => {
    const [call, other] = ['stopped', 'other'].map((id) => container(id, { conf: NETWORK, runtimeConfig: PORT }))
    // Chains that are there already are written to by one call of iptables.
    await cni('ADD', { ...other, runtimeConfig: {} })
    const undo = slowDown()
    const running = cni('ADD', call)
    await eventually(() => existsSync(STEPS), 'The ADD does not come to its rules')
    const pid = mainPid()
    run(['systemctl', 'stop', SERVICE])
    const steps = readFileSync(STEPS, 'utf8')
    undo()
    await running
    assert(steps === 'begin\nend\n' && readFileSync(STEPS, 'utf8') === steps, `At its end: ${steps}; later: ${readFileSync(STEPS, 'utf8')}`)
    assert(!existsSync(`/proc/${pid}`), `Process ${pid} is still there`)
    assertUnit(SERVICE, { ActiveState: 'inactive', Result: 'success', ExecMainStatus: '0' })
    assertIncludes(journal(SERVICE), '"event":"ended","reason":"stopped"', 'The journal')
    for (const each of [call, other]) await cni('DEL', each)
  })

  await check('the first call after a stop starts it again', async () => {
    await becomes(SERVICE, { ActiveState: 'active' })
    assert(status().requests.DEL === 2, JSON.stringify(status().requests))
    run(['systemctl', 'stop', SERVICE])
  })

  await check('--idle-exit ends it in peace, and the next call starts it', async () => {
    const call = container('idle', { conf: NETWORK })
    const undo = dropIn(SERVICE, ['ExecStart=', `ExecStart=${BIN}/tsnet agent --json --idle-exit 1`])
    await cni('ADD', call)
    const { pid } = status()
    await becomes(SERVICE, { ActiveState: 'inactive', Result: 'success' })
    assertIncludes(journal(SERVICE), '"event":"ended","reason":"idle"', 'The journal')
    await cni('DEL', call)
    const next = status()
    assert(next.pid !== pid && next.requests.DEL === 1, JSON.stringify(next))
    undo()
    run(['systemctl', 'stop', SERVICE])
  })

  await check('one that dies at each start is given up, and calls go on in one shot', async () => {
    const call = container('dies', { conf: NETWORK })
    const undo = dropIn(SERVICE, ['ExecStart=', 'ExecStart=/bin/false'])
    await cni('ADD', call)
    await becomes(SOCKET_UNIT, { ActiveState: 'failed', Result: 'service-start-limit-hit' })
    assert(!existsSync(SOCKET), 'Its socket is still there')
    await cni('DEL', call)
    undo()
    run(['systemctl', 'reset-failed', SERVICE])
    run(['systemctl', 'restart', SOCKET_UNIT])
    assertUnit(SOCKET_UNIT, { ActiveState: 'active', SubState: 'listening' })
  })

  await check('enabled itself, it runs without a call; disabled, it takes its socket away, and calls go on in one shot', async () => {
    const call = container('enabled', { conf: NETWORK })
    run(['systemctl', 'enable', '--now', SERVICE])
    assertUnit(SERVICE, { ActiveState: 'active', UnitFileState: 'enabled', WantedBy: 'multi-user.target' })
    await cni('ADD', call)
    assert(status().requests.ADD === 1, JSON.stringify(status().requests))
    run(['systemctl', 'disable', '--now', SERVICE, SOCKET_UNIT])
    assertUnit(SERVICE, { ActiveState: 'inactive', Result: 'success' })
    assert(!existsSync(SOCKET), 'Its socket is still there')
    await cni('DEL', call)
  })
}

const status = () => JSON.parse(run([`${BIN}/tsnet`, 'agent', 'status', '--json']))
const mainPid = () => Number(show(SERVICE).MainPID)
const mode = (path) => (statSync(path).mode & 0o777).toString(8)

/** @returns What makes iptables fast again */
function slowDown() {
  const target = readlinkSync(RESTORE)
  symlinkSync(target, REAL_RESTORE)
  rmSync(RESTORE)
  writeFileSync(RESTORE, SLOW_RESTORE, { mode: 0o755 })
  return () => {
    rmSync(RESTORE)
    symlinkSync(target, RESTORE)
  }
}
