import { differentialTest } from './differential.ts'

const IPAM = {
  type: 'static',
  addresses: [{ address: '10.99.0.60/24', gateway: '10.99.0.2' }],
  routes: [{ dst: '0.0.0.0/0' }],
}

for (const [type, keys] of [
  ['vlan', { master: 'uplink', vlanId: 7, mtu: 1300 }],
  ['ipvlan', { master: 'uplink', mode: 'l3', mtu: 1300 }],
] as const) {
  const plugin = { type, ...keys, ipam: IPAM }
  differentialTest({
    name: type,
    plugins: [plugin],
    needs: type,
    differences: [
      { name: 'interfaces: the result says the MTU', without: (line) => (/^add\.result\.interfaces\[.*\]\.mtu/.test(line) ? undefined : line) },
      {
        name: 'interfaces: the transmit queue is as long as the kernel makes it',
        without: (line) => (/\[eth0\]\.txqlen/.test(line) ? undefined : line),
      },
      {
        name: 'interfaces: routes are marked as static',
        without: (line) => (/\.routes[46]\[.*\]\.protocol: "static"/.test(line) ? undefined : line),
      },
    ],
  })
}
