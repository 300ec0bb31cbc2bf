/** Kernel parameters of a network namespace, as a configuration names them. */
import { sep } from 'node:path'
import { CNI_CODE, TsnetError } from '../error.ts'

const IFNAME = 'IFNAME'

/**
 * @param name `net.ipv4.conf.IFNAME.rp_filter` or the same with slashes: whichever of the two comes first separates, so that the name of an
 * interface may hold the other.
 * @returns The path below /proc/sys, `IFNAME` replaced once.
 * @throws TsnetError TSNET_CONFIG, CNI code 7, for what is not below net/
 * @see containernetworking/plugins plugins/meta/tuning/tuning.go; sysctl(8)
 */
export function netSysctlKey(name: string, ifname: string): string {
  const first = /[./]/.exec(name)?.[0]
  const swapped = (text: string) => text.replace(/[./]/g, (character) => (character === '.' ? sep : '.'))
  const path = first === '.' ? swapped(name).replace(IFNAME, () => ifname) : name.replace(IFNAME, () => ifname)
  const parts = path.split(sep)
  const plain = parts.length > 1 && parts[0] === 'net' && parts.every((part) => part !== '' && part !== '.' && part !== '..' && !/[\0\s]/.test(part))
  if (plain) return path
  throw new TsnetError('TSNET_CONFIG', `Invalid net sysctl key ${JSON.stringify(name.slice(0, 128))}`, {
    cniCode: CNI_CODE.invalidConfig,
    hint: 'Only keys below net can be set for a container',
  })
}
