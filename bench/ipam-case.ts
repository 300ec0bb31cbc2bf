/** One ADD must cost the same however many leases the subnet file holds. */
import { leaseOwner } from '../src/ipam/lease.ts'
import { openExistingSubnet } from '../src/ipam/open-subnet.ts'
import { type Contender, tsnet } from './contender.ts'
import { type CaseOptions, container, interleave, type Row, rowOf } from './series.ts'

const FEW = 10
const MANY = 60_000
const TARGET = 1.5

export interface Pool {
  readonly network: string
  readonly subnet: string
  /** How many leases it holds while it is measured. */
  readonly leases: number
  /** How many of them are released before: what a pool without a fresh address hands out again, oldest first. */
  readonly released: number
}

export function ipamCase(options: CaseOptions): readonly Row[] {
  const released = options.repetitions + 5
  const pools: readonly Pool[] = [
    { network: 'few', subnet: '10.100.0.0/15', leases: FEW, released: 0 },
    { network: 'many', subnet: '10.102.0.0/15', leases: MANY, released: 0 },
    { network: 'full', subnet: '10.104.0.0/16', leases: 2 ** 16 - 3 - released, released },
  ]
  const contenders = pools.map((pool) => preparePool(pool, options))
  const [few, many, full] = interleave(contenders, { ...options, forget: false, ports: false })
  if (few === undefined || many === undefined || full === undefined) throw new Error('A series is missing')
  const against = `${FEW} leases`
  const text = MANY.toLocaleString('en')
  return [
    rowOf({ case: `ADD without ports, ${text} leases`, against, target: TARGET }, many.adds, few.adds),
    rowOf({ case: `ADD without ports, full but for ${released} released`, against, target: TARGET }, full.adds, few.adds),
    rowOf({ case: `DEL without ports, ${text} leases`, against }, many.dels, few.dels),
  ]
}

/** A network with one attachment that stands, and leases that the store itself has written. */
export function preparePool(pool: Pool, { plugin, progress }: Pick<CaseOptions, 'plugin' | 'progress'>): Contender {
  const contender = tsnet(plugin, { network: pool.network, config: { bridge: `${pool.network}0`, ipam: { type: 'tsnet', subnet: pool.subnet } } })
  contender.add(container(`${pool.network}-stands`))
  using store = openExistingSubnet(`/run/tsnet/networks/${pool.network}`)
  if (store === undefined) throw new Error(`Network "${pool.network}" has no subnet file`)
  const owner = (i: number) => leaseOwner(`filler-${i}`, 'eth0')
  const leases = Array.from({ length: pool.leases + pool.released - 1 }, (_, i) => {
    if (i % 10_000 === 9999) progress(`${i + 1} leases in ${pool.subnet}`)
    return store.acquire(owner(i), 0)
  })
  for (const [i, { address }] of leases.entries()) if (i >= leases.length - pool.released) store.release(owner(i), address)
  return { ...contender, name: pool.network }
}
