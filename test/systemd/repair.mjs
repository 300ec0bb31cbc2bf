/** tsnet-repair.service. */
import { check, eventually, flushRules, killHard, run } from '../runtimes/check.mjs'
import { assertUnit, becomes, cni, container, show } from './service.mjs'

const SERVICE = 'tsnet-repair.service'
const NETWORK = { cniVersion: '1.1.0', name: 'mended', type: 'tsnet', backend: 'iptables', ipam: { ranges: [[{ subnet: '10.51.0.0/24' }]] } }
const PORT = { portMappings: [{ hostPort: 8081, containerPort: 80, protocol: 'tcp' }] }

export async function repair() {
  const call = container('mended', { conf: NETWORK, runtimeConfig: PORT })

  await check('enabled, it makes flushed rules again', async () => {
    run(['systemctl', 'enable', '--now', SERVICE])
    assertUnit(SERVICE, { ActiveState: 'active', UnitFileState: 'enabled' })
    await cni('ADD', call)
    await flushed()
  })

  await check('killed, it comes back and goes on', async () => {
    killHard(Number(show(SERVICE).MainPID))
    await flushed()
    assertUnit(SERVICE, { ActiveState: 'active', NRestarts: '1' })
  })

  await check('stopped, it ends in peace', async () => {
    run(['systemctl', 'disable', '--now', SERVICE])
    await becomes(SERVICE, { ActiveState: 'inactive', Result: 'success' })
    await cni('DEL', call)
  })
}

function flushed() {
  flushRules()
  return eventually(() => run(['iptables-save', '-t', 'nat']).includes('--dport 8081'), 'The rules do not come back')
}
