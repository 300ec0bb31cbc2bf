/** Fingerprints of the rules of iptables-legacy, which the kernel tells nobody about when they change. */
import { closeSync, readFileSync } from 'node:fs'
import { isErrno } from '../error.ts'
import { libc } from './libc.ts'

// include/linux/socket.h, include/uapi/linux/in.h
const SOCK_RAW = 3
const SOCK_CLOEXEC = 0o2000000
const IPPROTO_RAW = 255
// include/uapi/linux/netfilter_ipv4/ip_tables.h, netfilter_ipv6/ip6_tables.h: both options have the number 64
const SO_GET_INFO = 64
/** struct ipt_getinfo: a name of 32 bytes, hooks, underflows, number of entries, their size. */
const INFO_LENGTH = 84

const FAMILIES = [
  { domain: 2, level: 0, names: '/proc/net/ip_tables_names' },
  { domain: 10, level: 41, names: '/proc/net/ip6_tables_names' },
] as const

/**
 * @returns How many rules each table has, of what size, and where its chains begin, as text: it differs when rules come or go. Empty
 * when no table is in use: only those that are get asked for, since asking would make the others.
 */
export function legacyFingerprint(): string {
  return FAMILIES.flatMap(({ domain, level, names }) => {
    const tables = tablesIn(names)
    return tables.length === 0 ? [] : fingerprints(tables, domain, level)
  }).join(' ')
}

/** @returns None where the kernel has no legacy tables. */
function tablesIn(path: string): readonly string[] {
  try {
    return readFileSync(path, 'utf8').split('\n').filter(Boolean)
  } catch (error) {
    if (isErrno(error, 'ENOENT')) return []
    throw error
  }
}

function fingerprints(tables: readonly string[], domain: number, level: number): readonly string[] {
  const fd = libc.socket(domain, SOCK_RAW | SOCK_CLOEXEC, IPPROTO_RAW)
  if (fd < 0) return []
  try {
    return tables.map((table) => {
      const info = Buffer.alloc(INFO_LENGTH)
      info.write(table, 'latin1')
      return libc.getsockopt(fd, level, SO_GET_INFO, info, new Uint32Array([INFO_LENGTH])) === 0 ? info.toString('hex') : table
    })
  } finally {
    closeSync(fd)
  }
}
