/**
 * firewalld rejects what it has no zone for, in a table of its own that no accept of ours overrules: a bridge of ours goes into its
 * zone `trusted`, as one would do by hand. Only its backend nftables is meant; that of iptables has our jump in front of its rules.
 */
import { CNI_CODE, TsnetError } from '../error.ts'
import { listTables, openNftables } from '../netlink/nftables.ts'
import { findProgram } from '../sys/program-path.ts'
import { startProgram } from '../sys/spawn.ts'
import { NFPROTO_INET } from '../wire/nftables.ts'

const TABLE = 'firewalld'
const ZONE = 'trusted'
const TIMEOUT_MS = 15_000

/** @returns Whether firewalld rules the network namespace that the thread is in. */
export function isFirewalldActive(): boolean {
  using nft = openNftables()
  return listTables(nft).some(({ family, name }) => family === NFPROTO_INET && name === TABLE)
}

/**
 * Until firewalld is restarted; a reload keeps it. It takes a third of a second.
 * @throws TsnetError when firewalld does not do it
 */
export function trustBridge(bridge: string): void {
  const { status, stderr } = ask(`--zone=${ZONE}`, `--add-interface=${bridge}`)
  if (status === 0) return
  throw new TsnetError('TSNET_FIREWALLD', `Cannot put the bridge "${bridge}" into firewalld's zone "${ZONE}": ${stderr.trim().split('\n')[0]}`, {
    hint: `firewall-cmd --zone=${ZONE} --add-interface=${bridge} says more`,
  })
}

/** Takes it out again; where firewalld, or the bridge in it, is gone, nothing is left to do. */
export function distrustBridge(bridge: string): void {
  if (isFirewalldActive() && zoneOf(bridge) === ZONE) ask(`--zone=${ZONE}`, `--remove-interface=${bridge}`)
}

/** @returns The zone that somebody has put the bridge into, if anybody has. */
export function zoneOf(bridge: string): string | undefined {
  const { status, stdout } = ask(`--get-zone-of-interface=${bridge}`)
  return status === 0 ? stdout.trim() : undefined
}

/**
 * Lets all packets of addresses pass, until firewalld is reloaded.
 * @param sources `address/length`
 * @throws TsnetError when firewalld does not do it
 */
export function addToZone(zone: string, sources: readonly string[]): void {
  const { status, stderr } = ask(`--zone=${zone}`, ...sources.map((source) => `--add-source=${source}`))
  if (status !== 0) throw zoneRefused(`put ${sources.join(', ')} into`, zone, stderr)
}

/** Where firewalld, or the addresses in it, are gone, nothing is left to do. @throws TsnetError when firewalld does not do it */
export function removeFromZone(zone: string, sources: readonly string[]): void {
  if (findProgram('firewall-cmd') === undefined || sources.length === 0) return
  const { status, stderr } = ask(`--zone=${zone}`, ...sources.map((source) => `--remove-source=${source}`))
  if (status !== 0 && isFirewalldActive()) throw zoneRefused(`take ${sources.join(', ')} out of`, zone, stderr)
}

/** @returns The addresses that are in a zone, `address/length`. */
export function sourcesInZone(zone: string): readonly string[] {
  const { status, stdout } = ask(`--zone=${zone}`, '--list-sources')
  return status === 0 ? stdout.trim().split(/\s+/) : []
}

/** @throws TsnetError with CNI code 50 when firewalld does not answer */
export function requireFirewalld(): void {
  const { status, stderr } = findProgram('firewall-cmd') === undefined ? { status: 1, stderr: 'firewall-cmd is not installed' } : ask('--state')
  if (status === 0) return
  throw new TsnetError('TSNET_FIREWALLD', `Cannot reach firewalld: ${stderr.trim().split('\n')[0]}`, {
    cniCode: CNI_CODE.notAvailable,
    hint: 'Start firewalld, or use the backend iptables',
  })
}

function zoneRefused(what: string, zone: string, stderr: string): TsnetError {
  return new TsnetError('TSNET_FIREWALLD', `Cannot ${what} firewalld's zone "${zone}": ${stderr.trim().split('\n')[0]}`, {
    hint: 'firewall-cmd --state tells whether firewalld runs',
  })
}

function ask(...args: readonly string[]) {
  const path = findProgram('firewall-cmd')
  if (path === undefined)
    throw new TsnetError('TSNET_FIREWALLD', 'Cannot ask firewalld: firewall-cmd is not installed', { hint: 'Install the package firewalld' })
  return startProgram({ path, args, inheritsLocks: true, timeoutMs: TIMEOUT_MS }).finish()
}
