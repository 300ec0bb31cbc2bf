/** The container's TAP interface. */
import { quote } from '../cni/json.ts'
import { CNI_CODE, isErrno, KernelError, TsnetError } from '../error.ts'
import { changeLink, findLink } from '../netlink/rtnetlink.ts'
import { within } from '../sys/netns.ts'
import { findProgram } from '../sys/program-path.ts'
import { withExecContext } from '../sys/selinux.ts'
import { startProgram } from '../sys/spawn.ts'
import { createTap, ensureTunDevice, type TapOptions } from '../sys/tun.ts'
import { type DeviceSite, insert, passingName } from './container-device.ts'

const TIMEOUT_MS = 10_000

export interface TapDevice extends Omit<TapOptions, 'name'> {
  /** Bytes; 0 leaves it to the kernel. */
  readonly mtu: number
  /** Six bytes. */
  readonly mac?: Uint8Array
  /** A bridge in the container's namespace; empty for none. */
  readonly bridge: string
  /** What the interface is labelled with; empty for this process's own. */
  readonly selinuxContext: string
}

/** @throws TsnetError TSNET_INTERFACE_TAKEN; TSNET_NO_LINK_KIND, CNI code 50; TSNET_CONFIG, CNI code 7, for a bridge that is none */
export function makeTapDevice(site: DeviceSite, tap: TapDevice): void {
  const { container, netns, owner } = site
  const master = tap.bridge === '' ? undefined : findBridge(site, tap.bridge)
  const options = { ...tap, name: passingName(owner) }
  insert(site, () => within(netns, () => (tap.selinuxContext === '' ? unlessAbsent(() => createTap(options)) : createLabelled(options))))
  changeLink(container, `set up the TAP interface "${owner.ifname}"`, {
    id: owner.ifname,
    link: { ...(tap.mtu > 0 && { mtu: tap.mtu }), ...(tap.mac && { address: tap.mac }), ...(master !== undefined && { master }) },
  })
}

/** @throws TsnetError TSNET_NO_LINK_KIND, CNI code 50 */
export function ensureTap(): void {
  unlessAbsent(ensureTunDevice)
}

function findBridge({ container }: DeviceSite, name: string): number {
  const link = findLink(container, name)
  if (link?.linkinfo?.kind === 'bridge') return link.index
  const why = link === undefined ? 'the namespace has no such interface' : 'it is no bridge'
  throw new TsnetError('TSNET_BRIDGE', `Cannot use the bridge ${quote(name)} of the container: ${why}`, { cniCode: CNI_CODE.invalidConfig })
}

/** The kernel labels it with the context of the process that makes it, and one context cannot be had for a moment: another program makes it. */
function createLabelled({ name, owner, group, multiQueue, selinuxContext }: TapDevice & TapOptions): void {
  const path = findProgram('ip')
  if (path === undefined)
    throw new TsnetError('TSNET_NO_IP', 'Cannot label a TAP interface: the program "ip" is not installed', { cniCode: CNI_CODE.notAvailable })
  const args = [
    ...['tuntap', 'add', 'mode', 'tap', 'name', name, 'vnet_hdr'],
    ...(multiQueue ? ['multi_queue'] : []),
    ...(owner === undefined ? [] : ['user', String(owner)]),
    ...(group === undefined ? [] : ['group', String(group)]),
  ]
  const { status, stderr } = withExecContext(selinuxContext, () => startProgram({ path, args, timeoutMs: TIMEOUT_MS }).finish())
  if (status !== 0) throw new TsnetError('TSNET_SELINUX', `Cannot create a labelled TAP interface: ${stderr.trim().split('\n')[0]}`)
}

function unlessAbsent(create: () => void): void {
  try {
    create()
  } catch (error) {
    if (!(error instanceof KernelError && error.operation.startsWith('open') && isErrno(error, 'ENOENT', 'ENODEV', 'ENXIO'))) throw error
    throw new TsnetError('TSNET_NO_LINK_KIND', 'Cannot create a TAP interface: the kernel has no /dev/net/tun', {
      cniCode: CNI_CODE.notAvailable,
      hint: 'modprobe tun',
      cause: error,
    })
  }
}
