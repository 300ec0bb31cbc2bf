/** Finds what was never given back, in all networks of a host. */
import { existsSync, readdirSync, rmSync } from 'node:fs'
import { join } from 'node:path'
import { ErrorList, isErrno } from '../../error.ts'
import type { IndexEntry } from './holder-index.ts'
import { INDEX_FOLDER, ReservationStore } from './reservation-store.ts'

export interface VanishedReservation extends Pick<IndexEntry, 'address' | 'containerID' | 'ifname'> {
  readonly network: string
}

export interface ReleaseVanishedOptions {
  /** Where host-local keeps its networks, absolute. */
  readonly dataDir: string
  /** Only this network; all when absent. */
  readonly network?: string
  /** How long to wait for others in each network. */
  readonly timeoutMs: number
}

/**
 * Gives back the addresses that tsnet's host-local has reserved for namespaces that are gone, and what it has seen of other programs
 * in a former boot. The rest stays: nobody knows for which namespace.
 * @returns What was given back.
 * @throws ErrorList after the other networks have been looked at
 */
export function releaseVanished({ dataDir, network: only, timeoutMs }: ReleaseVanishedOptions): readonly VanishedReservation[] {
  const errors: unknown[] = []
  const released = networksOf(dataDir)
    .filter((network) => only === undefined || network === only)
    .flatMap((network) => {
      try {
        return releaseIn({ dataDir, network }, timeoutMs)
      } catch (error) {
        errors.push(error)
        return []
      }
    })
  if (errors.length > 0) throw new ErrorList(`Cannot give back every address of "${dataDir}"`, errors)
  return released
}

function releaseIn(folder: { readonly dataDir: string; readonly network: string }, timeoutMs: number): readonly VanishedReservation[] {
  const { dataDir, network } = folder
  if (!existsSync(join(dataDir, network))) {
    rmSync(join(dataDir, INDEX_FOLDER, network), { recursive: true, force: true })
    return []
  }
  using store = ReservationStore.open(folder, timeoutMs)
  return store
    .release(store.vanished())
    .map(({ address, containerID, ifname }) => ({ network, address, containerID, ...(ifname !== undefined && { ifname }) }))
}

/** @returns Those that tsnet has reserved addresses in. */
function networksOf(dataDir: string): readonly string[] {
  try {
    return readdirSync(join(dataDir, INDEX_FOLDER))
  } catch (error) {
    if (isErrno(error, 'ENOENT', 'ENOTDIR')) return []
    throw error
  }
}
