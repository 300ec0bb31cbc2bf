/**
 * Who owns which host port, over all networks of the host:
 *
 *     <state>/ports/lock             flock, held for the length of a claim or release
 *     <state>/ports/tcp/31           claims on the ports 31*256 to 31*256+255, one a line: <first>-<last> <host address> <owner>
 *
 * A claim costs one small file, however many ports are published, and a range of 10,000 ports 40 of them. A claim counts
 * while its owner's attachment record exists, so that nothing that was killed can hold a port for ever.
 */
import { mkdirSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { CNI_CODE, isErrno, TsnetError } from '../error.ts'
import { lockFile } from '../sys/lock.ts'
import { formatAddress, parseAddress } from '../wire/ip-address.ts'
import { formatHostPort, type PublishedPort, portsConflict } from './model.ts'

const BUCKET_SHIFT = 8
const LOCK_TIMEOUT_MS = 30_000

export interface PortLedger {
  /** `<state>/ports`. */
  readonly folder: string
  /** Whether the attachment that a claim names still exists. */
  readonly exists: (owner: string) => boolean
  /** Whether the two are attachments of one container. */
  readonly siblings: (a: string, b: string) => boolean
}

interface Claim {
  readonly owner: string
  readonly port: PublishedPort
}

/**
 * Claims the ports or none. Claims that the same owner left behind are taken over. A port that another attachment of the same
 * container has stays with that one: podman names a container's ports again for each further network.
 * @returns The ports that are the owner's now
 * @throws TsnetError with CNI code 103, naming the port and its owner, when another attachment has one
 */
export function claimPorts(ledger: PortLedger, owner: string, ports: readonly PublishedPort[]): readonly PublishedPort[] {
  if (ports.length === 0) return []
  using _lock = openLedger(ledger)
  const claimed = new Set(ports)
  const buckets = bucketsOf(ports).map((bucket) => ({ bucket, claims: readBucket(ledger, bucket).filter((claim) => claim.owner !== owner) }))
  for (const { claims } of buckets) {
    for (const port of ports) {
      const other = claims.find((claim) => portsConflict(claim.port, port) && ledger.exists(claim.owner))
      if (other !== undefined && !ledger.siblings(owner, other.owner)) throw portTaken(port, other.owner)
      if (other !== undefined) claimed.delete(port)
    }
  }
  for (const { bucket, claims } of buckets) {
    const ours = [...claimed].filter((port) => bucketsOf([port]).includes(bucket)).map((port) => ({ owner, port }))
    writeBucket(ledger, bucket, [...claims.filter((claim) => ledger.exists(claim.owner)), ...ours])
  }
  return [...claimed]
}

/** Gives back what `owner` holds of these ports; ports that it does not hold are passed over. */
export function releasePorts(ledger: PortLedger, owner: string, ports: readonly PublishedPort[]): void {
  if (ports.length === 0) return
  using _lock = openLedger(ledger)
  for (const bucket of bucketsOf(ports)) {
    const claims = readBucket(ledger, bucket)
    const left = claims.filter((claim) => claim.owner !== owner)
    if (left.length < claims.length) writeBucket(ledger, bucket, left)
  }
}

function openLedger(ledger: PortLedger): Disposable {
  mkdirSync(ledger.folder, { recursive: true, mode: 0o700 })
  return lockFile(join(ledger.folder, 'lock'), { timeoutMs: LOCK_TIMEOUT_MS })
}

/** @returns File names below the ledger's folder, such as `tcp/31`, each once. */
function bucketsOf(ports: readonly PublishedPort[]): readonly string[] {
  const buckets = new Set<string>()
  for (const { protocol, hostPort, count } of ports) {
    for (let bucket = hostPort >> BUCKET_SHIFT; bucket <= (hostPort + count - 1) >> BUCKET_SHIFT; bucket++) buckets.add(`${protocol}/${bucket}`)
  }
  return [...buckets]
}

function readBucket(ledger: PortLedger, bucket: string): readonly Claim[] {
  const [protocol] = bucket.split('/') as [PublishedPort['protocol']]
  let text: string
  try {
    text = readFileSync(join(ledger.folder, bucket), 'utf8')
  } catch (error) {
    if (isErrno(error, 'ENOENT')) return []
    throw error
  }
  return text.split('\n').flatMap((line) => parseClaim(protocol, line) ?? [])
}

function writeBucket(ledger: PortLedger, bucket: string, claims: readonly Claim[]): void {
  const path = join(ledger.folder, bucket)
  if (claims.length === 0) return rmSync(path, { force: true })
  mkdirSync(join(path, '..'), { recursive: true, mode: 0o700 })
  writeFileSync(`${path}.new`, claims.map(formatClaim).join(''), { mode: 0o600 })
  renameSync(`${path}.new`, path)
}

function formatClaim({ owner, port }: Claim): string {
  const any = port.address.family === 4 ? '0.0.0.0' : '::'
  return `${port.hostPort}-${port.hostPort + port.count - 1} ${port.hostAddress ? formatAddress(port.hostAddress) : any} ${owner}\n`
}

/** The container's side is not kept: the claim only says who has the host's. */
function parseClaim(protocol: PublishedPort['protocol'], line: string): Claim | undefined {
  const [, first, last, host, owner] = /^(\d{1,5})-(\d{1,5}) (\S+) (\S+)$/.exec(line) ?? []
  const address = host === undefined ? undefined : parseAddress(host)
  if (address === undefined || owner === undefined) return undefined
  const hostAddress = address.value !== 0n && { hostAddress: address }
  const hostPort = Number(first)
  return { owner, port: { protocol, ...hostAddress, hostPort, count: Number(last) - hostPort + 1, address, containerPort: 1 } }
}

function portTaken(port: PublishedPort, owner: string): TsnetError {
  return new TsnetError('TSNET_PORT_TAKEN', `Cannot publish ${formatHostPort(port)}: attachment "${owner}" has it`, {
    cniCode: CNI_CODE.hostPortTaken,
    hint: 'Publish another host port, or detach that attachment first',
  })
}
