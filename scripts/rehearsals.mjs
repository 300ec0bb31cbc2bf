// What the build has each bundle do, to learn which functions a call runs: see code-cache.mjs.

const portMappings = [{ hostPort: 8080, containerPort: 80, protocol: 'tcp' }]
const head = { cniVersion: '1.0.0', runtimeConfig: { portMappings } }
const lo = { command: 'ADD', type: 'loopback', config: { cniVersion: '1.0.0', name: 'lo' } }

const chain = {
  ...head,
  name: 'chain',
  bridge: 'chain0',
  isGateway: true,
  ipMasq: true,
  capabilities: { portMappings: true },
  ipam: { type: 'host-local', ranges: [[{ subnet: '10.1.2.0/24' }]], routes: [{ dst: '0.0.0.0/0' }], dataDir: '/run/networks' },
}

/** By bundle. Each ADD gets the result of the one before, as in a chain, and each DEL that of the last. */
export const REHEARSALS = {
  cni: [lo, ...addAndDelete(['tsnet'], own('nftables')), ...addAndDelete(['tsnet'], own('iptables'))],
  plugins: addAndDelete(['bridge', 'portmap', 'firewall', 'tuning'], chain),
}

function own(backend) {
  return { ...head, name: backend, bridge: `tsnet-${backend}`, backend }
}

function addAndDelete(types, config) {
  return ['ADD', 'DEL'].flatMap((command) => types.map((type) => ({ command, type, config })))
}
