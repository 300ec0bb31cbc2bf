/** The tracked connections of the current network namespace, as /proc tells them: cheaper to look at than a list over netlink. */
import { readFileSync } from 'node:fs'
import { isErrno } from '../error.ts'
import { readSysctl } from './sysctl.ts'

/** @returns How many there are, or Infinity when the kernel does not say, as in a namespace of another user. */
export function countConnections(): number {
  return Number(readSysctl('net/netfilter/nf_conntrack_count') ?? Number.POSITIVE_INFINITY)
}

/**
 * @returns A line each with `src=10.0.0.1 dst=10.0.0.2 sport=40000 dport=80 ` for both directions, IPv6 addresses written out; or
 *   undefined when the kernel has no such file (CONFIG_NF_CONNTRACK_PROCFS) or does not let us read it
 * @see net/netfilter/nf_conntrack_standalone.c, ct_seq_show()
 */
export function readConnections(): string | undefined {
  try {
    return readFileSync('/proc/net/nf_conntrack', 'latin1')
  } catch (error) {
    if (isErrno(error, 'ENOENT', 'EACCES', 'EPERM')) return undefined
    throw error
  }
}
